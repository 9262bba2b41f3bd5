#pragma once
// What a table must do, written as plainly as it can be: a std::map and one scalar at a time, straight
// from server/optimizer/README.md. The fast tables are compared with it bit by bit.

#include <cstdint>
#include <map>
#include <vector>

#include "common/types.h"
#include "proto/table.pb.h"

namespace tidegate::conformance {

struct ReferenceRow {
  uint32_t touches = 0;
  uint32_t applications = 0;
  Clock first_clock = 0;
  Clock last_clock = 0;
  std::vector<float> values;              // as float32 also where stored as bfloat16
  std::vector<std::vector<float>> slots;  // by part, each the concatenation of its state vectors
};

class ReferenceTable {
 public:
  explicit ReferenceTable(const TableSpec& spec) : spec_(spec) {}

  std::vector<float> Initial(Key key) const;
  // What a pull at `clock` answers.
  std::vector<float> Pull(Key key, Clock clock, float lr_scale) const;
  void Push(Key key, const std::vector<float>& gradient, uint32_t samples, float scale, float lr_scale,
            Clock clock);
  void Sweep(Clock clock);
  void Erase(Key key) { rows_.erase(key), counters_.erase(key); }

  const std::map<Key, ReferenceRow>& rows() const { return rows_; }
  const std::map<Key, uint32_t>& counters() const { return counters_; }

 private:
  bool Admit(Key key, uint32_t samples, Clock clock, uint32_t* touches);

  TableSpec spec_;
  std::map<Key, ReferenceRow> rows_;
  std::map<Key, uint32_t> counters_;
};

// One application of `part`'s optimizer (not of L2 ALL_LAZY, which the table does).
void ReferenceApply(const PartSpec& part, float* values, std::vector<float>* slots, const float* gradient,
                    float scale, float lr_scale, uint32_t applications, Clock clock);
std::vector<float> ReferenceSlots(const PartSpec& part, const float* values);

}  // namespace tidegate::conformance
