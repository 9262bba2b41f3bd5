#pragma once
// How far one shard has been sent to the replica that is being filled: table after table, keys rising. What
// lies behind the cursor is at the replica and follows by the log; what lies beyond it is still to be sent.
// A core without I/O; not thread-safe.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "common/types.h"
#include "server/table/shard_table.h"

namespace tidegate {

class ShardFill {
 public:
  explicit ShardFill(Incarnation to) : to_(to) {}

  Incarnation to() const { return to_; }
  bool begun() const { return begun_; }
  void Begin() { begun_ = true; }
  // The table in work.
  TableId table() const { return table_; }

  // The key's row is at the replica, or will not be sent: it has to follow the log.
  bool HasPassed(TableId table, Key key) const {
    if (!begun_ || table > table_) return false;
    return table < table_ || (moved_ && key <= cursor_);
  }
  // The key may have come into the table that is in work: it will be sent. REQUIRES: not passed.
  void Note(TableId table, Key key);
  // Appends about `bytes` of records of the table in work, which is `rows`; at its end the next one is.
  void Take(const ShardTable& rows, size_t bytes, std::string* out);

  // The index of the record that ended it; 0: not ended.
  uint64_t end_index = 0;
  bool told = false;  // that it is in sync

 private:
  Incarnation to_;
  bool begun_ = false;
  TableId table_ = 0;
  bool listed_ = false;
  std::vector<Key> keys_;  // of the table, rising, as they were when it began
  size_t next_ = 0;
  std::set<Key> later_;    // those that came since
  bool moved_ = false;     // cursor_ is one
  Key cursor_ = 0;
};

}  // namespace tidegate
