#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "cuda/blas.h"

namespace tidegate::cuda {

absl::Status CheckGemm(const GemmShape& shape, size_t a_size, size_t b_size, size_t c_size) {
  constexpr size_t kLimit = std::numeric_limits<int>::max();  // BLAS counts in int
  for (size_t dim : {shape.m, shape.n, shape.k}) {
    if (dim == 0 || dim > kLimit) {
      return absl::InvalidArgumentError(
          absl::StrCat("gemm: dimension ", dim, " is not in [1, ", kLimit, "]"));
    }
  }
  const struct {
    const char* name;
    size_t have;
    size_t want;
  } operands[] = {{"a", a_size, shape.m * shape.k},
                  {"b", b_size, shape.k * shape.n},
                  {"c", c_size, shape.m * shape.n}};
  for (const auto& o : operands) {
    if (o.have != o.want) {
      return absl::InvalidArgumentError(absl::StrCat("gemm: ", o.name, " holds ", o.have,
                                                     " floats, the shape needs ", o.want));
    }
  }
  return absl::OkStatus();
}

absl::Status GemmReference(const GemmShape& shape, std::span<const float> a, std::span<const float> b,
                           std::span<float> c) {
  if (absl::Status s = CheckGemm(shape, a.size(), b.size(), c.size()); !s.ok()) return s;
  for (size_t i = 0; i < shape.m; ++i) {
    for (size_t j = 0; j < shape.n; ++j) {
      float sum = 0;
      for (size_t p = 0; p < shape.k; ++p) {
        const float x = shape.transpose_a ? a[p * shape.m + i] : a[i * shape.k + p];
        const float y = shape.transpose_b ? b[j * shape.k + p] : b[p * shape.n + j];
        sum = std::fma(x, y, sum);
      }
      float& out = c[i * shape.n + j];
      out = shape.beta == 0 ? sum : std::fma(shape.beta, out, sum);
    }
  }
  return absl::OkStatus();
}

}  // namespace tidegate::cuda
