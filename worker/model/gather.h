#pragma once
// Distinct keys of a batch, the plain way: in order of first occurrence, sample by sample.

#include <optional>
#include <span>

#include "worker/model/model.h"

namespace tidegate {

// Fills keys, counts and positions of sparse table `table`, whose features are `features`. oov_keys: by
// feature of the batch; one that is there comes after all others where the feature has keys.
void GatherKeys(TableId table, std::span<const size_t> features, std::span<const std::optional<Key>> oov_keys, Step* step);

}  // namespace tidegate
