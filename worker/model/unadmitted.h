#pragma once
// Keys that are not admitted, in tables with `unadmitted: FEATURE_OOV`: a pull marks their rows by NaN in
// every element, and each feature has an out-of-vocabulary key whose row its marked keys read and train
// instead. That key is a key like others: pulled with the batch, admitted by the samples that read it.

#include <cstdint>
#include <span>

#include "proto/job.pb.h"
#include "worker/model/model.h"

namespace tidegate {

// `feature` is resolved: its salt is set.
Key OovKeyOf(const FeatureConfig& feature);

// After a pull: positions of marked keys become that of their feature's out-of-vocabulary key, whose count
// becomes that of the samples that held or now read it; where its own row is marked, it reads zeros. Other
// rows and counts stay. Called again, it changes nothing. `features`: the table's.
// REQUIRES: positions, rows and counts fit keys.
void ReadOutOfVocabularyRows(TableId table, std::span<const size_t> features, uint32_t row_width, Step* step);

// Takes keys that no sample held or read out of keys, counts and gradients, so that a push does not touch them.
void DropUnread(uint32_t row_width, TableStep* table);

}  // namespace tidegate
