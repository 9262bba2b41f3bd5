#pragma once
// Matrix products on a Device, and the plain CPU version that they are tested against.
// Matrices are row major and dense (no leading dimensions).

#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cuda/device.h"

namespace tidegate::cuda {

// c[m, n] = op(a)[m, k] * op(b)[k, n] + beta * c, where op transposes if asked: a transposed operand is
// stored as [k, m] (or [n, k]).
struct GemmShape {
  size_t m = 0;
  size_t n = 0;
  size_t k = 0;
  bool transpose_a = false;
  bool transpose_b = false;
  float beta = 0;
};

class Blas {
 public:
  // `device` outlives the Blas. Products run on its stream.
  static absl::StatusOr<std::unique_ptr<Blas>> Create(Device* device);
  virtual ~Blas() = default;
  // INVALID_ARGUMENT where a buffer's size does not fit the shape. Float32 throughout (no TF32).
  virtual absl::Status Gemm(const GemmShape& shape, const DeviceBuffer& a, const DeviceBuffer& b,
                            DeviceBuffer* c) = 0;
};

// INVALID_ARGUMENT with both numbers where sizes (in floats) do not fit, or a dimension is too large.
absl::Status CheckGemm(const GemmShape& shape, size_t a_size, size_t b_size, size_t c_size);
// Sums over k in rising order, one fused multiply-add at a time.
absl::Status GemmReference(const GemmShape& shape, std::span<const float> a, std::span<const float> b,
                           std::span<float> c);

}  // namespace tidegate::cuda
