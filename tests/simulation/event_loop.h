#pragma once
// Virtual time, and the processes that live in it. Events run in the order (time, sequence): the same
// calls give the same run. Not thread-safe.

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "common/types.h"

namespace tidegate::simulation {

class EventLoop {
 public:
  using Event = std::function<void()>;

  TimeMs now() const { return now_; }
  void At(TimeMs at, Event event) {
    events_.emplace(std::pair(at < now_ ? now_ : at, next_++), std::move(event));
  }
  // False: nothing is left to do.
  bool RunOne() {
    if (events_.empty()) return false;
    auto first = events_.extract(events_.begin());
    now_ = first.key().first;
    ++ran_;
    first.mapped()();
    return true;
  }
  uint64_t ran() const { return ran_; }

 private:
  TimeMs now_ = 0;
  uint64_t next_ = 0;
  uint64_t ran_ = 0;
  std::map<std::pair<TimeMs, uint64_t>, Event> events_;
};

// Something that can stop, pause and start again. What was meant for an earlier life never happens; what
// is meant for a paused process happens when it wakes, in order.
class Process {
 public:
  explicit Process(EventLoop* loop, int id) : loop_(loop), id_(id) {}
  virtual ~Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  int id() const { return id_; }
  bool up() const { return up_; }
  bool paused() const { return pauses_ > 0; }
  uint64_t life() const { return life_; }
  // By its own clock, which may be ahead of others' clocks, and run faster or slower.
  TimeMs now() const { return loop_->now() + loop_->now() * drift_ppm_ / 1'000'000 + skew_; }
  void SetClock(TimeMs skew_ms, int drift_ppm) {
    skew_ = skew_ms;
    drift_ppm_ = drift_ppm;
  }

  void After(TimeMs delay_ms, EventLoop::Event event) {
    loop_->At(loop_->now() + delay_ms, [this, life = life_, event = std::move(event)]() mutable {
      Take(life, std::move(event));
    });
  }
  // It runs again when each Pause had its Resume.
  void Pause() { ++pauses_; }
  void Resume() {
    if (pauses_ == 0 || --pauses_ > 0) return;
    std::vector<std::pair<uint64_t, EventLoop::Event>> backlog = std::exchange(backlog_, {});
    for (auto& [life, event] : backlog) Take(life, std::move(event));
  }

 protected:
  void Stop() {
    up_ = false;
    pauses_ = 0;
    ++life_;
    backlog_.clear();
  }
  void Begin() { up_ = true; }

 private:
  void Take(uint64_t life, EventLoop::Event event) {
    if (!up_ || life != life_) return;
    if (paused()) {
      backlog_.emplace_back(life, std::move(event));
    } else {
      event();
    }
  }

  EventLoop* const loop_;
  const int id_;
  bool up_ = false;
  int pauses_ = 0;
  TimeMs skew_ = 0;
  int drift_ppm_ = 0;
  uint64_t life_ = 0;
  std::vector<std::pair<uint64_t, EventLoop::Event>> backlog_;
};

}  // namespace tidegate::simulation
