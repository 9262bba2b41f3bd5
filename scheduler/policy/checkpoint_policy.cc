#include "scheduler/policy/checkpoint_policy.h"

#include <algorithm>
#include <set>

namespace tidegate {

bool IsCheckpointDue(const CheckpointConfig& config, TimeMs since_last_ms, Clock next_clock,
                     Clock last_clock) {
  if (next_clock <= last_clock) return false;  // nothing was learned since
  const bool by_time = config.every_s() > 0 &&
                       static_cast<double>(since_last_ms) >= config.every_s() * 1000.0;
  const bool by_clock = config.every_clocks() > 0 &&
                        static_cast<uint64_t>(next_clock - last_clock) >= config.every_clocks();
  return by_time || by_clock;
}

uint64_t ClocksToCheckpoint(const CheckpointConfig& config, Clock next_clock, Clock last_clock) {
  if (config.every_clocks() == 0) return 0;
  const uint64_t passed = static_cast<uint64_t>(std::max<Clock>(next_clock - last_clock, 0));
  return passed >= config.every_clocks() ? config.every_clocks() : config.every_clocks() - passed;
}

uint32_t ChainLength(const google::protobuf::RepeatedPtrField<CheckpointRecord>& records, const CheckpointRecord& record) {
  uint32_t length = 1;
  uint64_t base = record.base();
  for (int i = records.size() - 1; i >= 0 && base != 0; --i) {
    if (records[i].number() != base) continue;
    base = records[i].base();
    ++length;
  }
  return length;
}

std::vector<CheckpointRecord> SupersededCheckpoints(
    const google::protobuf::RepeatedPtrField<CheckpointRecord>& records, uint32_t keep) {
  int best = -1;
  for (int i = 0; i < records.size(); ++i) {
    if (records[i].best()) best = i;
  }
  const int kept_from = records.size() - static_cast<int>(std::clamp<uint32_t>(keep, 1, 1u << 30));
  std::vector<CheckpointRecord> out;
  std::set<uint64_t> bases;
  for (int i = records.size() - 1; i >= 0; --i) {
    if (i >= kept_from || i == best || bases.contains(records[i].number())) {
      bases.insert(records[i].base());
    } else {
      out.push_back(records[i]);
    }
  }
  return out;
}

}  // namespace tidegate
