#include "worker/data/negatives.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "worker/data/fields.h"

namespace tidegate {
namespace {

uint64_t PairHash(std::string_view by, std::string_view value) {
  return StableHash(value, StableHash(by));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SeenPairs>> SeenPairs::Load(const DataSchema& schema,
                                                                 RowStream* rows) {
  auto seen = std::make_shared<SeenPairs>();
  CsvSplitter splitter(schema.csv.delimiter, schema.csv.quotes);
  std::string what;
  Row row;
  for (;;) {
    absl::StatusOr<bool> more = rows->Next(&row);
    if (!more.ok()) return more.status();
    if (!*more) break;
    if (row.too_long || !splitter.Split(row.text(), schema.columns + 1, &what)) continue;
    const auto& fields = splitter.fields();
    if (fields.size() != schema.columns) continue;
    if (seen->hashes_.size() == kPairsMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat("data.negatives.exclude_seen_by: data.train has more than ", kPairsMax,
                       " rows, more pairs than are held in memory; leave the field out"));
    }
    seen->hashes_.push_back(
        PairHash(fields[schema.negatives.seen_by], fields[schema.negatives.column]));
  }
  std::sort(seen->hashes_.begin(), seen->hashes_.end());
  return seen;
}

bool SeenPairs::Contains(std::string_view by, std::string_view value) const {
  return std::binary_search(hashes_.begin(), hashes_.end(), PairHash(by, value));
}

bool NegativeSampler::Draw(uint64_t sample_id, uint32_t number, std::string_view by,
                           uint64_t* value) const {
  Random random(RandomBits(RandomBits(seed_, sample_id), number));
  for (uint32_t i = 0; i < kTries; ++i) {
    *value = random.Below(negatives_.values);
    if (seen_ == nullptr) return true;
    char text[24];
    const auto [end, error] = std::to_chars(text, text + sizeof(text), *value);
    if (!seen_->Contains(by, {text, static_cast<size_t>(end - text)})) return true;
  }
  return false;
}

}  // namespace tidegate
