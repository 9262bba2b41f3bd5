#include "worker/model/lookup.h"

#include <algorithm>

#include "worker/model/with_dim.h"

namespace tidegate {
namespace {

constexpr size_t kTileRows = 64;  // of all features, so that a tile's activations stay in the L1 cache

// One value in each sample, all weights 1: position[r] is sample r's.
bool SingleValued(const FeatureColumn& column, size_t rows) {
  if (!column.weights.empty() || column.keys.size() != rows) return false;
  for (size_t r = 0; r <= rows; ++r) {
    if (column.offsets[r] != r) return false;
  }
  return true;
}

template <typename Body>
void ForTiles(const LookupPlan& plan, const Step& step, Body body) {
  thread_local std::vector<uint8_t> single;
  single.clear();
  for (size_t f : plan.features) {
    single.push_back(SingleValued(step.batch.features[f], step.batch.rows));
  }
  for (size_t begin = 0; begin < step.batch.rows; begin += kTileRows) {
    const size_t end = std::min(step.batch.rows, begin + kTileRows);
    for (size_t f = 0; f < plan.features.size(); ++f) body(f, begin, end, single[f] != 0);
  }
}

template <typename Dim>
void Forward(const LookupPlan& plan, const Step& step, size_t width, Dim dim, float* out) {
  const float* rows = step.tables[plan.table].rows.data() + plan.offset;
  const size_t stride = plan.features.size() * dim;
  ForTiles(plan, step, [&](size_t f, size_t begin, size_t end, bool single) {
    const FeatureColumn& column = step.batch.features[plan.features[f]];
    const uint32_t* position = step.features[plan.features[f]].position.data();
    for (size_t r = begin; r < end; ++r) {
      float* __restrict to = out + r * stride + f * dim;
      if (single) {
        const float* __restrict from = rows + position[r] * width;
        for (uint32_t d = 0; d < dim; ++d) to[d] = from[d];
        continue;
      }
      for (uint32_t d = 0; d < dim; ++d) to[d] = 0;
      for (uint32_t i = column.offsets[r]; i < column.offsets[r + 1]; ++i) {
        const float* __restrict from = rows + position[i] * width;
        const float weight = column.weights.empty() ? 1.0f : column.weights[i];
        for (uint32_t d = 0; d < dim; ++d) to[d] += weight * from[d];
      }
    }
  });
}

template <typename Dim>
void Backward(const LookupPlan& plan, const float* gradient, size_t width, Dim dim, Step* step) {
  float* rows = step->tables[plan.table].gradients.data() + plan.offset;
  const size_t stride = plan.features.size() * dim;
  ForTiles(plan, *step, [&](size_t f, size_t begin, size_t end, bool single) {
    const FeatureColumn& column = step->batch.features[plan.features[f]];
    const uint32_t* position = step->features[plan.features[f]].position.data();
    for (size_t r = begin; r < end; ++r) {
      const float* __restrict from = gradient + r * stride + f * dim;
      if (single) {
        float* __restrict to = rows + position[r] * width;
        for (uint32_t d = 0; d < dim; ++d) to[d] += from[d];
        continue;
      }
      for (uint32_t i = column.offsets[r]; i < column.offsets[r + 1]; ++i) {
        float* __restrict to = rows + position[i] * width;
        const float weight = column.weights.empty() ? 1.0f : column.weights[i];
        for (uint32_t d = 0; d < dim; ++d) to[d] += weight * from[d];
      }
    }
  });
}

template <typename Dim>
void SequenceForward(const LookupPlan& plan, const Step& step, size_t width, Dim dim, float* out) {
  const float* rows = step.tables[plan.table].rows.data() + plan.offset;
  const FeatureColumn& column = step.batch.features[plan.features[0]];
  const std::vector<uint32_t>& position = step.features[plan.features[0]].position;
  for (size_t i = 0; i < position.size(); ++i) {
    const float* __restrict from = rows + position[i] * width;
    float* __restrict to = out + i * dim;
    const float weight = column.weights.empty() ? 1.0f : column.weights[i];
    for (uint32_t d = 0; d < dim; ++d) to[d] = weight * from[d];
  }
}

template <typename Dim>
void SequenceBackward(const LookupPlan& plan, const float* gradient, size_t width, Dim dim,
                      Step* step) {
  float* rows = step->tables[plan.table].gradients.data() + plan.offset;
  const FeatureColumn& column = step->batch.features[plan.features[0]];
  const std::vector<uint32_t>& position = step->features[plan.features[0]].position;
  for (size_t i = 0; i < position.size(); ++i) {
    const float* __restrict from = gradient + i * dim;
    float* __restrict to = rows + position[i] * width;
    const float weight = column.weights.empty() ? 1.0f : column.weights[i];
    for (uint32_t d = 0; d < dim; ++d) to[d] += weight * from[d];
  }
}

}  // namespace

void LookupForward(const LookupPlan& plan, const Step& step, uint32_t row_width, float* out) {
  WithDim(plan.dim, [&](auto dim) {
    plan.sequence ? SequenceForward(plan, step, row_width, dim, out)
                  : Forward(plan, step, row_width, dim, out);
  });
}

void LookupBackward(const LookupPlan& plan, const float* gradient, uint32_t row_width, Step* step) {
  WithDim(plan.dim, [&](auto dim) {
    plan.sequence ? SequenceBackward(plan, gradient, row_width, dim, step)
                  : Backward(plan, gradient, row_width, dim, step);
  });
}

}  // namespace tidegate
