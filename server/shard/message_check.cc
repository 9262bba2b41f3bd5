#include "server/shard/message_check.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/table/value_codec.h"

namespace tidegate {
namespace {

constexpr double kLeastWeight = 1e-20;  // so that 1 / weight is a sane float
constexpr double kGreatestWeight = 1e20;

absl::Status CheckTable(TableId table, const TableCatalog& catalog) {
  if (table < catalog.size()) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("no table ", table, ": the job has ", catalog.size(), " tables"));
}

// The largest magnitude of a gradient that is applied divided by `weight`; one of weight 0 is not applied.
float GradientMax(double weight) {
  const double divisor = weight > 0 ? std::min(weight, 1.0) : 1.0;
  return static_cast<float>(kMeanGradientMax * divisor);
}

absl::Status BadValue(const wire::TableGradients& table, const wire::PushRequest& request,
                      const RowLayout& layout) {
  const DataType type = WireDataType(request.value_type);
  const size_t size = wire::SizeOf(request.value_type);
  const float limit = GradientMax(request.weight);
  size_t i = 0;
  while (AllWithin(table.values.subspan(i * size, size), type, limit)) ++i;
  const wire::Bytes value = table.values.subspan(i * size, size);
  const std::string place = absl::StrCat(": key ", table.keys[i / layout.width()], ", element ",
                                         i % layout.width());
  if (!AllFinite(value, type)) {
    return absl::InvalidArgumentError(absl::StrCat("push to table `", layout.name(),
                                                   "` holds NaN or infinity", place,
                                                   ": has training diverged? Lower the learning rate, or clip"));
  }
  float gradient;
  DecodeValues(value.data(), type, 1, &gradient);
  return absl::InvalidArgumentError(absl::StrCat(
      "push to table `", layout.name(), "` holds gradient ", gradient, " of weight ", request.weight,
      place, "; the limit is ", limit, ": has training diverged? Lower the learning rate, or clip"));
}

absl::Status CheckHeader(const wire::PushRequest& request) {
  const double weight = request.weight;
  const bool weight_ok = weight == 0 || (weight >= kLeastWeight && weight <= kGreatestWeight);
  if (!weight_ok) {
    return absl::InvalidArgumentError(absl::StrCat(
        "push with weight ", weight, ": it is the sum of sample weights, 0 or in [",
        kLeastWeight, ", ", kGreatestWeight, "]"));
  }
  const uint32_t parts = request.parts == 0 ? 1 : request.parts;
  if (parts > kMaxPartsOfPush || request.part >= parts) {
    return absl::InvalidArgumentError(
        absl::StrCat("push is part ", request.part, " of ", parts,
                     ": parts count from 0, and are at most ", kMaxPartsOfPush));
  }
  if (request.asks && (!request.tables.empty() || parts > 1)) {
    return absl::InvalidArgumentError("a push that asks for contributors has no tables, and is part 0 of 1");
  }
  if (request.stamp.incarnation == 0) return absl::OkStatus();
  if (request.sequence == 0) {
    return absl::InvalidArgumentError(absl::StrCat("push of worker ", request.stamp.incarnation,
                                                   " with sequence 0: they count from 1"));
  }
  if (request.clock < 0 || request.clock > kClockLimit) {
    return absl::InvalidArgumentError(absl::StrCat("push of worker ", request.stamp.incarnation,
                                                   " with clock ", request.clock));
  }
  return absl::OkStatus();
}

absl::Status CheckShape(const wire::TableGradients& table, wire::ValueType type,
                        const RowLayout& layout) {
  const uint64_t row_bytes = layout.WireRowBytes(WireDataType(type));
  const uint64_t expected = table.keys.size() * row_bytes;
  if (table.values.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat(
        "push to table `", layout.name(), "` has ", table.values.size(), " bytes of values, ",
        table.keys.size(), " keys of ", layout.width(), " elements need ", expected));
  }
  if (!table.counts.empty() && table.counts.size() != table.keys.size()) {
    return absl::InvalidArgumentError(absl::StrCat("push to table `", layout.name(), "` has ",
                                                   table.counts.size(), " counts for ",
                                                   table.keys.size(), " keys"));
  }
  return layout.CheckKeys(table.keys);
}

absl::Status CheckPushTables(const wire::PushRequest& request, const TableCatalog& catalog,
                             PushFault* fault) {
  for (const wire::TableGradients& table : request.tables) {
    *fault = PushFault::kUnknownTable;
    if (absl::Status s = CheckTable(table.table, catalog); !s.ok()) return s;
    const RowLayout& layout = catalog.layout(table.table);
    *fault = PushFault::kShape;
    if (absl::Status s = CheckShape(table, request.value_type, layout); !s.ok()) return s;
    *fault = PushFault::kNonFinite;
    if (!AllWithin(table.values, WireDataType(request.value_type), GradientMax(request.weight))) {
      return BadValue(table, request, layout);
    }
  }
  *fault = PushFault::kNone;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TableCatalog>> TableCatalog::FromSpecs(
    std::span<const TableSpec> specs) {
  std::shared_ptr<TableCatalog> out(new TableCatalog);
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].id() != i) {
      return absl::InvalidArgumentError(absl::StrCat("table `", specs[i].name(), "` has id ",
                                                     specs[i].id(), ", its place is ", i));
    }
    absl::StatusOr<RowLayout> layout = RowLayout::Create(specs[i]);
    if (!layout.ok()) return layout.status();
    out->specs_.push_back(specs[i]);
    out->layouts_.push_back(*std::move(layout));
  }
  return out;
}

bool TableCatalog::SameSpecs(const TableCatalog& other) const {
  if (specs_.size() != other.specs_.size()) return false;
  for (size_t i = 0; i < specs_.size(); ++i) {
    if (specs_[i].SerializeAsString() != other.specs_[i].SerializeAsString()) return false;
  }
  return true;
}

absl::Status CheckPull(const wire::PullRequest& request, const TableCatalog& catalog,
                       uint64_t response_limit_bytes) {
  if (request.clock < -kClockLimit || request.clock > kClockLimit) {
    return absl::InvalidArgumentError(absl::StrCat("pull with clock ", request.clock));
  }
  uint64_t bytes = 0;
  for (const wire::TableKeys& table : request.tables) {
    if (absl::Status s = CheckTable(table.table, catalog); !s.ok()) return s;
    const RowLayout& layout = catalog.layout(table.table);
    if (absl::Status s = layout.CheckKeys(table.keys); !s.ok()) return s;
    bytes += table.keys.size() * layout.WireRowBytes(WireDataType(request.value_type));
    if (bytes > response_limit_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("pull asks for more than ", response_limit_bytes,
                       " bytes of rows (cluster.message_limit_bytes): ask in several messages"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPush(const wire::PushRequest& request, const TableCatalog& catalog,
                       PushFault* fault) {
  PushFault ignored;
  if (fault == nullptr) fault = &ignored;
  *fault = PushFault::kHeader;
  if (absl::Status s = CheckHeader(request); !s.ok()) return s;
  return CheckPushTables(request, catalog, fault);
}

absl::Status CheckRecord(const wire::Record& record, const TableCatalog& catalog) {
  if (const auto* sweep = std::get_if<wire::SweepRecord>(&record)) return CheckTable(sweep->table, catalog);
  if (const auto* fill = std::get_if<wire::FillRecord>(&record)) {
    return fill->records.empty() ? absl::OkStatus() : CheckTable(fill->table, catalog);
  }
  if (const auto* digest = std::get_if<wire::DigestRecord>(&record)) {
    if (digest->shards.size() == digest->digests.size()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("record of ", digest->digests.size(), " digests for ",
                                                   digest->shards.size(), " shards"));
  }
  const auto* push = std::get_if<wire::PushRecord>(&record);
  if (push == nullptr) return absl::OkStatus();
  const double weight = push->push.weight;
  if (!(weight == 0 || (weight >= kLeastWeight && std::isfinite(weight))) || !std::isfinite(push->lr_scale) ||
      push->clock < -kClockLimit || push->clock > kClockLimit) {
    return absl::InvalidArgumentError(absl::StrCat("record of a push with weight ", weight, ", clock ", push->clock,
                                                   ", learning rate factor ", push->lr_scale));
  }
  if (!push->contributors.empty() && push->clock < 0) {
    return absl::InvalidArgumentError(absl::StrCat("record of the contributors of clock ", push->clock));
  }
  const Sequence sequence = push->push.sequence;
  if (push->push.stamp.incarnation != 0 && (sequence == 0 || push->push.oldest_unacked > sequence)) {
    return absl::InvalidArgumentError(absl::StrCat("record of a push with sequence ", sequence, ", oldest_unacked ",
                                                   push->push.oldest_unacked));
  }
  for (const wire::TableGradients& table : push->push.tables) {
    if (absl::Status s = CheckTable(table.table, catalog); !s.ok()) return s;
    const RowLayout& layout = catalog.layout(table.table);
    if (absl::Status s = CheckShape(table, push->push.value_type, layout); !s.ok()) return s;
    if (!AllFinite(table.values, WireDataType(push->push.value_type))) {
      return absl::InvalidArgumentError(absl::StrCat("record of a push to table `", layout.name(),
                                                     "` holds NaN or infinity"));
    }
  }
  return absl::OkStatus();
}

}  // namespace tidegate
