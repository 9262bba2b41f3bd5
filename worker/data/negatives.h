#pragma once
// Values drawn as negatives (DataConfig.negatives): uniform in 0 .. values - 1, a function of (seed of
// the epoch, sample id, number of the draw), without those that training holds for the same user.
// Immutable; thread-safe.

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/rows.h"
#include "worker/data/schema.h"

namespace tidegate {

// Pairs of (user, value) as sorted hashes of 8 bytes; two pairs of one hash are one (2^-64 each).
class SeenPairs {
 public:
  static constexpr uint64_t kPairsMax = uint64_t{1} << 27;  // 1 GiB

  // Reads all rows of the training data. RESOURCE_EXHAUSTED beyond kPairsMax; lines that are no rows
  // are passed over: training reports them.
  static absl::StatusOr<std::shared_ptr<const SeenPairs>> Load(const DataSchema& schema,
                                                               RowStream* rows);
  bool Contains(std::string_view by, std::string_view value) const;
  size_t size() const { return hashes_.size(); }

 private:
  std::vector<uint64_t> hashes_;
};

class NegativeSampler {
 public:
  // `seen` may be null: nothing is excluded.
  NegativeSampler(const DataSchema::Negatives& negatives, uint64_t seed,
                  std::shared_ptr<const SeenPairs> seen)
      : negatives_(negatives), seed_(seed), seen_(std::move(seen)) {}

  // False: nothing was found that `by` has not seen, in kTries draws.
  bool Draw(uint64_t sample_id, uint32_t number, std::string_view by, uint64_t* value) const;

 private:
  static constexpr uint32_t kTries = 1000;

  const DataSchema::Negatives negatives_;
  const uint64_t seed_;
  const std::shared_ptr<const SeenPairs> seen_;
};

}  // namespace tidegate
