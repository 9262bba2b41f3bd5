#pragma once
// One strand's part of a checkpoint: the rows of its shards as they are at one moment (the cut), given out
// in chunks while pushes go on. A row that is about to change is kept first as it was (copy before write),
// until its chunk has been given out. A core without I/O; not thread-safe.
//
// An incremental one gives out only what changed since the cut that it builds on. Which that is, `TouchedSince` says of each
// shard: a shard that came to be led here since, or whose last checkpoint failed, is given out whole.
//
//   idle --Arm--> armed --Begin (ShardGroup: where the clock is reached)--> open --last row--> idle
//
// For each shard and table, in any order: TakeRemoved; ListKeys; SetOrder with them sorted, each once (away from the strand: it
// is the longest part); Next until it says false.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/packed_span.h"
#include "common/types.h"
#include "proto/checkpoint.pb.h"
#include "server/shard/sessions.h"
#include "server/shard/shard_map.h"
#include "server/table/table_group.h"

namespace tidegate {

using TableGroups = std::vector<std::unique_ptr<TableGroup>>;
// By local index: the cut since which the shard's tables write down what changes; 0: they do not.
using TouchedSince = std::vector<uint64_t>;

class ShardCut {
 public:
  // Takes the place of an earlier cut, whatever of it is not given out yet.
  // `base`: the cut that it builds on; 0: it is full.
  void Arm(uint64_t number, Clock clock, uint64_t base = 0);
  // `number`: forgets it if it is this one.
  void Drop(uint64_t number);

  bool DueAt(Clock released, bool any_live) const {
    return state_ == State::kArmed && (released >= clock_ || !any_live);
  }
  // The cut: from here on rows of the shards that are led are those of this moment. `tables` outlive the cut. `since`, where
  // it is not null, becomes this cut: what changes from now on is written down.
  void Begin(const TableGroups* tables, const ShardMap& shards, const Sessions& sessions,
             Clock released, Clock highest, TouchedSince* since = nullptr);
  // A shard of it is led here no more: a cut that is open is given up.
  void GiveUp() {
    if (open()) *this = ShardCut();
  }

  bool open() const { return state_ == State::kOpen; }
  bool IsArmed(uint64_t number) const { return state_ == State::kArmed && number_ == number; }
  bool IsOpen(uint64_t number) const { return state_ == State::kOpen && number_ == number; }

  // These keys are about to be written. REQUIRES: open.
  void BeforeWrite(TableId table, PackedSpan<Key> keys, std::span<const uint32_t> positions);
  // Any row of the table may change or leave: what is not given out yet is copied whole. REQUIRES: open.
  void BeforeSweep(TableId table);

  // --- of a cut that is open; `local`: the shard's index in the strand ---
  // What its file's header says, without sections.
  const ShardFileHeader& Header(uint32_t local) const { return headers_[local]; }
  bool IsIncremental(uint32_t local) const { return incremental_[local] != 0; }
  // Keys that left since the base, in any order, some of them twice; some are there again.
  std::vector<Key> TakeRemoved(uint32_t local, TableId table) { return std::move(At(local, table).removed); }
  std::vector<Key> ListKeys(uint32_t local, TableId table);
  void SetOrder(uint32_t local, TableId table, std::vector<Key> sorted);
  // Appends about `bytes` of records (ShardTable::AppendRows) and adds to `rows` how many are rows. False:
  // these were the last; after those of the last shard and table the cut is idle.
  bool Next(uint32_t local, TableId table, size_t bytes, std::string* out, uint64_t* rows);

 private:
  enum class State { kIdle, kArmed, kOpen };
  struct Part {  // of one shard and table
    enum Stage { kPending, kOrdered, kFrozen, kDone } stage = kPending;
    std::vector<Key> keys;   // kOrdered
    size_t next = 0;         // into keys
    absl::flat_hash_map<Key, std::string> saved;  // records as they were; empty: there was none
    std::string frozen;      // kFrozen: all that is left
    uint64_t frozen_rows = 0;
    // Of a shard that is incremental.
    bool incremental = false;
    TouchedRows touched;
    std::vector<Key> removed;
  };

  void BeginTouched(uint32_t local, TouchedSince* since);
  std::vector<Key> KeysOf(const Part& part, const ShardTable& table) const;
  Part& At(uint32_t local, TableId table) { return parts_[local * tables_->size() + table]; }
  bool IsGivenOut(const Part& part, Key key) const;
  void AppendRecord(const Part& part, const ShardTable& table, Key key, std::string* out,
                    uint64_t* rows) const;
  void Freeze(uint32_t local, TableId table);

  State state_ = State::kIdle;
  uint64_t number_ = 0;
  Clock clock_ = 0;
  uint64_t base_ = 0;
  const TableGroups* tables_ = nullptr;
  std::vector<ShardFileHeader> headers_;
  std::vector<uint8_t> incremental_;  // by local index
  std::vector<Part> parts_;
  size_t parts_left_ = 0;
};

}  // namespace tidegate
