#pragma once
// Distinct keys of a batch, the plain way: in order of first occurrence, sample by sample.

#include <span>

#include "worker/model/model.h"

namespace tidegate {

// Fills keys, counts and positions of sparse table `table`, whose features are `features`.
void GatherKeys(TableId table, std::span<const size_t> features, Step* step);

}  // namespace tidegate
