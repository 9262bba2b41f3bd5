#pragma once
// The distinct keys of one table in a batch, grouped by server, so that a pull's answer is copied into
// place in one piece per server; with the place of each key of the batch among them, and how many
// samples held each. One hash per key, open addressing, no allocation in steady state.
//
// Not thread-safe: scratch memory is reused. The result depends on nothing but its arguments.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/routing_table.h"
#include "common/types.h"

namespace tidegate {

// One feature that looks the table up: CSR as in FeatureColumn (worker/data/batch.h).
struct DedupColumn {
  std::span<const Key> keys;
  std::span<const uint32_t> offsets;  // rows + 1
  std::vector<uint32_t>* position;    // out: of each key among the distinct ones
  std::optional<Key> oov = {};        // stands among the distinct ones too where the column has keys
  uint32_t* oov_position = nullptr;   // out: its place
};

class KeyDedup {
 public:
  // All columns have the same number of rows. With `routing`, keys are grouped by server in the order of
  // routing->servers(), within a server in order of first occurrence; without it (null), the latter only.
  // A key that a sample holds several times, in one column or several, counts once for it. Columns' `oov`
  // keys come last (of their server) and count for nobody.
  void Run(TableId table, std::span<const DedupColumn> columns, const Routing* routing,
           std::vector<Key>* keys, std::vector<uint32_t>* counts);

 private:
  struct Slot {
    Key key = 0;
    uint32_t index = 0;
    uint32_t round = 0;  // the slot is taken if it is this round's
  };
  void Reserve(size_t keys);
  uint32_t Find(TableId table, Key key, const Routing* routing);
  void GroupByServer(size_t servers);

  std::vector<Slot> slots_;  // a power of two, at most half full
  uint32_t round_ = 0;
  std::vector<Key> distinct_;
  std::vector<uint32_t> server_;       // of distinct keys, with routing
  std::vector<uint32_t> samples_;      // that held the key
  std::vector<uint32_t> last_sample_;  // + 1
  std::vector<uint32_t> rank_;         // place after grouping
};

}  // namespace tidegate
