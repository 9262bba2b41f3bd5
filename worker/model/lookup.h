#pragma once
// From a table's pulled rows to activations and back. A feature with several values in a sample is
// pooled: the sum of weight * row.

#include "worker/model/graph.h"
#include "worker/model/model.h"

namespace tidegate {

// out[r, f, :] = sum over the values of feature f in sample r of weight * part of its row. Of a sequence:
// out[i, :] = weight * part of the row of value i.
void LookupForward(const LookupPlan& plan, const Step& step, uint32_t row_width, float* out);
// Adds to step->tables[table].gradients.
void LookupBackward(const LookupPlan& plan, const float* gradient, uint32_t row_width, Step* step);

}  // namespace tidegate
