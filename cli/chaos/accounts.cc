#include "cli/chaos/accounts.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/stable_hash.h"

namespace tidegate::cli {
namespace {

constexpr uint64_t kLargest = 8;  // amount; sums stay exact in float32 for two million pushes

}  // namespace

TableSpec AccountsSpec() {
  TableSpec spec;
  spec.set_id(kAccountsTable);
  spec.set_name("accounts");
  spec.set_seed(1);
  PartSpec* part = spec.add_parts();
  part->set_name("v");
  part->set_dim(kAccountDim);
  part->mutable_optimizer()->mutable_sgd()->set_lr(1);
  return spec;
}

Account::Account(int worker, ShardId shard, int log2_shards, size_t count) : shard_(shard) {
  for (Key key = static_cast<Key>(worker) << 40; keys_.size() < count; ++key) {
    if (ShardOfHash(PlacementHash(kAccountsTable, key), log2_shards) == shard) keys_.push_back(key);
  }
  sums_.resize(count * kAccountDim);
  pending_.resize(count * kAccountDim);
}

Account::Batch Account::NextPush(Random* random) {
  TG_CHECK(!outstanding_) << "shard " << shard_;
  outstanding_ = true;
  Batch batch;
  const uint64_t skipped = random->Below(keys_.size());  // one key at least is pushed: another than this
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_.size() > 1 && (i == skipped || random->Below(2) == 0)) continue;
    batch.keys.push_back(keys_[i]);
    for (uint32_t d = 0; d < kAccountDim; ++d) {
      const uint64_t amount = 1 + random->Below(kLargest);
      pending_[i * kAccountDim + d] = static_cast<int64_t>(amount);
      batch.gradients.push_back(static_cast<float>(amount));
    }
  }
  if (batch.keys.empty()) {
    const size_t i = (skipped + 1) % keys_.size();
    batch.keys.push_back(keys_[i]);
    for (uint32_t d = 0; d < kAccountDim; ++d) {
      pending_[i * kAccountDim + d] = 1;
      batch.gradients.push_back(1);
    }
  }
  return batch;
}

void Account::Acknowledged() {
  TG_CHECK(outstanding_) << "shard " << shard_;
  outstanding_ = false;
  ++pushes_;
  newest_.push_back(pending_);
  if (newest_.size() > kRemembered) newest_.pop_front();
  for (size_t i = 0; i < sums_.size(); ++i) {
    sums_[i] += pending_[i];
    pending_[i] = 0;
  }
}

uint64_t Account::WriteOff(std::span<const float> rows) {
  TG_CHECK_EQ(rows.size(), sums_.size());
  std::vector<int64_t> missing(sums_.size());
  for (size_t i = 0; i < sums_.size(); ++i) missing[i] = sums_[i] + static_cast<int64_t>(rows[i]);
  if (std::all_of(missing.begin(), missing.end(), [](int64_t m) { return m == 0; })) return 0;
  for (size_t first = 0; first < newest_.size(); ++first) {
    std::vector<int64_t> lost(sums_.size(), 0);
    for (size_t last = first; last < newest_.size(); ++last) {
      for (size_t i = 0; i < lost.size(); ++i) lost[i] += newest_[last][i];
      if (lost != missing) continue;
      for (size_t i = 0; i < lost.size(); ++i) sums_[i] -= lost[i];
      newest_.erase(newest_.begin() + static_cast<std::ptrdiff_t>(first), newest_.begin() + static_cast<std::ptrdiff_t>(last) + 1);
      return last + 1 - first;
    }
  }
  return 0;
}

std::string Account::Check(std::span<const float> rows) const {
  TG_CHECK_EQ(rows.size(), sums_.size());
  for (size_t i = 0; i < sums_.size(); ++i) {
    const double found = -static_cast<double>(rows[i]);
    const double booked = static_cast<double>(sums_[i]);
    if (found == booked) continue;
    return absl::StrCat("shard ", shard_, ", key ", keys_[i / kAccountDim], ": the row says ", found, ", acknowledged were ", booked,
                        found < booked ? ": lost " : ": too much by ", found < booked ? booked - found : found - booked);
  }
  return "";
}

}  // namespace tidegate::cli
