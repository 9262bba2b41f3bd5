#pragma once
// Loops over activations, written to vectorise; fixed order of every reduction. Row major; no aliasing
// unless said.

#include <cstddef>
#include <cstdint>
#include <span>

#include "proto/job.pb.h"

namespace tidegate {

// out[r, c] = sum over rows of x; partial sums of 64 rows first.
void ColumnSums(const float* x, size_t rows, size_t columns, float* out);
// a . b, by eight partial sums.
float DotProduct(const float* a, const float* b, size_t count);
// y += x
void AddTo(const float* x, size_t count, float* y);
// y[r, y_offset + c] = x[r, c], x of `columns`, y of `y_columns`.
void CopyColumns(const float* x, size_t rows, size_t columns, float* y, size_t y_columns,
                 size_t y_offset);
// y[r, c] += x[r, x_offset + c]
void AddColumns(const float* x, size_t rows, size_t x_columns, size_t x_offset, float* y,
                size_t columns);

// Masks that depend on (seed, sample, unit) only: in whatever batch a sample comes, on whatever worker.
class Dropout {
 public:
  Dropout(float probability, uint64_t layer_salt);
  bool active() const { return threshold_ > 0; }
  // x[r, c] = kept ? x / (1 - p) : 0, in place.
  void Apply(uint64_t seed, std::span<const uint64_t> sample_ids, size_t columns, float* x) const;
  float scale() const { return scale_; }

 private:
  uint32_t threshold_;  // of 65536
  float scale_;
  uint64_t layer_salt_;
};

// x = f(x + bias), in place; bias may be null.
void BiasActivate(Activation activation, const float* bias, size_t rows, size_t columns, float* x);
// d *= f'(.) in place, from the activation's output y. Dropped elements (y == 0 after dropout of a
// RELU) get 0; `scale` is the dropout's.
void ActivateBackward(Activation activation, const float* y, float scale, size_t count, float* d);

// Batch normalisation over rows (Ioffe & Szegedy 2015). Variances are the biased ones.
struct BatchNormView {
  size_t rows, columns;
  const float* z;      // [rows, columns] before
  const float* mean;   // [columns]
  const float* scale;  // [columns]: 1 / sqrt(variance + epsilon)
  const float* gamma;
  const float* beta;
};
inline constexpr float kBatchNormEpsilon = 1e-5f;
void BatchMoments(const float* z, size_t rows, size_t columns, float* mean, float* variance);
void BatchNormForward(const BatchNormView& v, float* out);
// d: gradient of the activation that follows (its output is y; see ActivateBackward), becomes that of
// z. Statistics are those of the batch. One pass for the sums and one for d.
void BatchNormBackward(const BatchNormView& v, Activation activation, const float* y, float scale,
                       float* d, float* d_gamma, float* d_beta);

}  // namespace tidegate
