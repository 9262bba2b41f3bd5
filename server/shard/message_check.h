#pragma once
// The checks of a message that need no state: made once per message, before it goes to the strands.
// A message that fails is refused whole. Thread-safe: functions of immutable values.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock_limit.h"
#include "common/types.h"
#include "common/wire/replica_wire.h"
#include "common/wire/shard_wire.h"
#include "proto/table.pb.h"
#include "server/table/row_layout.h"

namespace tidegate {

// The job's tables, compiled: shared by the strands and by the checks of messages. Immutable.
class TableCatalog {
 public:
  // INVALID_ARGUMENT: ids that are not 0, 1, 2, ... in order, or what RowLayout::Create refuses.
  static absl::StatusOr<std::shared_ptr<const TableCatalog>> FromSpecs(
      std::span<const TableSpec> specs);

  size_t size() const { return layouts_.size(); }
  const RowLayout& layout(TableId table) const { return layouts_[table]; }
  const TableSpec& spec(TableId table) const { return specs_[table]; }
  bool SameSpecs(const TableCatalog& other) const;

 private:
  TableCatalog() = default;
  std::vector<TableSpec> specs_;
  std::vector<RowLayout> layouts_;
};

// Why a push was refused, for counters.
enum class PushFault { kNone, kUnknownTable, kShape, kNonFinite, kHeader };

// A worker that this server has not heard for long may be ahead of what is released, but not by this.
inline constexpr Clock kClockJumpMax = Clock{1} << 32;
// A push may be so many clocks beyond the newest that the staleness allows: other workers' ticks may
// still be on their way.
inline constexpr Clock kPushAheadMax = 64;

// NOT_FOUND: unknown table. INVALID_ARGUMENT: a dense key beyond the table, a clock out of range.
// RESOURCE_EXHAUSTED: the rows would be more than `response_limit_bytes`.
absl::Status CheckPull(const wire::PullRequest& request, const TableCatalog& catalog,
                       uint64_t response_limit_bytes);

// NOT_FOUND: unknown table. INVALID_ARGUMENT: values or counts of another length than the keys ask
// for, a dense key beyond the table, a value that is not finite or divided by the weight above
// kMeanGradientMax, a weight that is negative or not finite, sequence 0 of a worker, part >= parts or
// too many parts. `fault` may be null.
absl::Status CheckPush(const wire::PushRequest& request, const TableCatalog& catalog,
                       PushFault* fault = nullptr);

// A record of another server's log: that it can be applied without harm, not that it is right. INVALID_ARGUMENT,
// NOT_FOUND as above.
absl::Status CheckRecord(const wire::Record& record, const TableCatalog& catalog);

inline DataType WireDataType(wire::ValueType type) {
  return type == wire::ValueType::kFloat32 ? FLOAT32 : BFLOAT16;
}

// Of |gradient| / min(weight, 1). With it, and by the limits of server/optimizer/README.md, no push that
// passes, nor any number of them, makes a row or an optimizer's slot infinite or NaN.
inline constexpr float kMeanGradientMax = 1e15f;

inline constexpr uint32_t kMaxPartsOfPush = 1024;  // at staleness 0, of one worker's clock

}  // namespace tidegate
