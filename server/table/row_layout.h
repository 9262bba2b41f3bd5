#pragma once
// How a table's rows lie in memory, compiled from its TableSpec. A row is contiguous:
//   values of part 0 | values of part 1 | ... | slots of part 0 | slots of part 1 | ...
// values in float32 or bfloat16 (padded to 4 bytes), slots in float32. Its header stands apart, so that 16
// floats are one cache line. On the wire a row is the concatenation of its parts' values alone, all float32 or
// all bfloat16. A dense table is the same with keys 0 .. dense_blocks() - 1 and dim = elements of a block.
//
// Thread-safe (const only).

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/packed_span.h"
#include "common/types.h"
#include "proto/table.pb.h"
#include "server/optimizer/optimizer.h"

namespace tidegate {

// The one header that admission, eviction, Adam's step and delta export share. Clocks are stored
// plus one (0: before the first), saturating at 2^32 - 1; counters saturate.
struct RowHeader {
  uint32_t touches = 0;       // samples that held the key, those before admission included
  uint32_t applications = 0;  // updates applied
  uint32_t first_clock = 0;   // of admission
  uint32_t last_clock = 0;    // of the last application
};
static_assert(sizeof(RowHeader) == 16);

inline uint32_t StoredClock(Clock clock) {
  return clock < 0 ? 0 : clock >= 0xfffffffeLL ? 0xffffffffu : static_cast<uint32_t>(clock + 1);
}
inline uint32_t SaturatingAdd(uint32_t a, uint32_t b) { return a + b < a ? 0xffffffffu : a + b; }
inline Clock ClockOf(uint32_t stored) { return static_cast<Clock>(stored) - 1; }

class RowLayout {
 public:
  struct Part {
    std::string name;
    uint32_t dim = 0;
    uint32_t first_element = 0;  // in the row on the wire
    bool bfloat16 = false;
    uint32_t value_offset = 0;  // bytes from the start of the row's data
    uint32_t slot_offset = 0;
    Initializer::KindCase init_kind = Initializer::KIND_NOT_SET;
    float init = 0;
    PartOptimizer optimizer;
  };

  // INVALID_ARGUMENT names the table, part and field: no parts, dim of 0, a row above 16 MiB, a duplicate
  // part name, a dense table without shape or with admission, eviction or several parts.
  static absl::StatusOr<RowLayout> Create(const TableSpec& spec);

  TableId table() const { return table_; }
  const std::string& name() const { return name_; }
  bool dense() const { return dense_; }
  uint64_t dense_blocks() const { return dense_blocks_; }  // 0 for a sparse table
  uint32_t width() const { return width_; }                // elements of a row on the wire
  uint32_t WireRowBytes(DataType wire) const { return width_ * (wire == FLOAT32 ? 4 : 2); }
  uint32_t data_bytes() const { return row_bytes_ - sizeof(RowHeader); }  // values and slots
  // ... with the header in front: what a row's record holds (ShardTable::AppendRows).
  uint32_t row_bytes() const { return row_bytes_; }
  uint32_t stride() const { return stride_; }  // from row to row in memory
  const std::vector<Part>& parts() const { return parts_; }
  uint64_t seed() const { return seed_; }
  // A row's values can be copied to a float32 row of the wire as they lie.
  bool plain_float32() const { return plain_float32_; }
  bool decays() const { return decays_; }  // a pull reads headers, too

  uint32_t admit_after() const { return admit_after_; }               // 0, 1: at once
  double admit_probability() const { return admit_probability_; }    // 1: at once
  bool admits_at_once() const { return admit_after_ <= 1 && admit_probability_ >= 1; }
  Unadmitted unadmitted() const { return unadmitted_; }
  uint64_t max_age_clocks() const { return max_age_clocks_; }  // 0: no limit
  float min_touches_per_clock() const { return min_touches_per_clock_; }
  bool evicts() const { return max_age_clocks_ > 0 || min_touches_per_clock_ > 0; }

  // INVALID_ARGUMENT: a key at or beyond dense_blocks() (any key is valid in a sparse table).
  absl::Status CheckKeys(PackedSpan<Key> keys) const;

  // Values of a row that no push has touched, as float32: a pure function of (seed, key, element).
  // Those of bfloat16 parts are rounded to what the row would hold. REQUIRES: out has width() floats.
  void InitialValues(Key key, float* out) const;
  // Values and slots of a new row.
  void InitializeRow(Key key, std::byte* row) const;

 private:
  TableId table_ = 0;
  std::string name_;
  bool dense_ = false;
  uint64_t dense_blocks_ = 0;
  uint32_t width_ = 0;
  uint32_t row_bytes_ = 0;
  uint32_t stride_ = 0;
  std::vector<Part> parts_;
  uint64_t seed_ = 0;
  bool plain_float32_ = false;
  bool decays_ = false;
  bool all_zero_init_ = false;
  uint32_t admit_after_ = 0;
  double admit_probability_ = 1;
  Unadmitted unadmitted_ = INITIALIZER;
  uint64_t max_age_clocks_ = 0;
  float min_touches_per_clock_ = 0;
};

}  // namespace tidegate
