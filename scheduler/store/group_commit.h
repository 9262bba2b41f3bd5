#pragma once
// What a core decided waits until the state that it follows from is stored. The core goes on meanwhile: all that it
// decides while a write is under way shares the next one, however much that is. Not thread-safe; does no I/O.
// Effects (SchedulerEffects) has `persist`: the state is another one now.
//
//   commit.Add(effects of a call);
//   if (commit.NeedsWrite()) { bytes = the core's state now; commit.BeginWrite(); ... write ...; commit.EndWrite(stored); }
//   carry out commit.Take();

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace tidegate {

template <typename Effects>
class GroupCommit {
 public:
  void Add(Effects effects) {
    if (effects.persist) ++decided_;
    held_.push_back({decided_, std::move(effects)});
  }
  // The core is ahead of what is stored, and no write is under way.
  bool NeedsWrite() const { return !writing_ && stored_ < decided_; }
  bool writing() const { return writing_; }
  bool AllStored() const { return stored_ == decided_; }

  // REQUIRES: no write is under way. What is written is the core's state as it is now.
  void BeginWrite() {
    writing_ = true;
    written_ = decided_;
  }
  // Not stored: another write is needed.
  void EndWrite(bool stored) {
    writing_ = false;
    if (stored) stored_ = written_;
  }
  // What may be carried out, in the order in which it was decided.
  std::vector<Effects> Take() {
    std::vector<Effects> out;
    while (!held_.empty() && held_.front().follows <= stored_) {
      out.push_back(std::move(held_.front().effects));
      held_.pop_front();
    }
    return out;
  }
  // What waits is carried out no more: its core is replaced.
  void Drop() { held_.clear(); }

 private:
  struct Held {
    uint64_t follows;  // from so many changes of the state
    Effects effects;
  };
  std::deque<Held> held_;
  uint64_t decided_ = 0, written_ = 0, stored_ = 0;  // changes of the state
  bool writing_ = false;
};

}  // namespace tidegate
