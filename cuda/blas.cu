#include "cuda/blas.h"

#include <cublas_v2.h>

#include "absl/strings/str_cat.h"
#include "cuda/handles.cuh"

namespace tidegate::cuda {
namespace {

absl::Status FromCublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(what, ": ", cublasGetStatusString(status)));
}

class CublasBlas final : public Blas {
 public:
  CublasBlas(Device* device, cublasHandle_t handle) : device_(device), handle_(handle) {}
  ~CublasBlas() override { cublasDestroy(handle_); }
  CublasBlas(const CublasBlas&) = delete;
  CublasBlas& operator=(const CublasBlas&) = delete;

  absl::Status Gemm(const GemmShape& shape, const DeviceBuffer& a, const DeviceBuffer& b,
                    DeviceBuffer* c) override {
    if (absl::Status s = CheckGemm(shape, a.size(), b.size(), c->size()); !s.ok()) return s;
    if (absl::Status s = FromCublas(cublasSetStream(handle_, StreamOf(device_)), "cublasSetStream"); !s.ok()) {
      return s;
    }
    // cuBLAS is column major: a row-major c is its transpose, so c' = op(b)' * op(a)'.
    const int m = static_cast<int>(shape.m);
    const int n = static_cast<int>(shape.n);
    const int k = static_cast<int>(shape.k);
    const float one = 1;
    return FromCublas(cublasSgemm(handle_, shape.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                  shape.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k, &one, b.data(),
                                  shape.transpose_b ? k : n, a.data(), shape.transpose_a ? m : k,
                                  &shape.beta, c->data(), n),
                      "cublasSgemm");
  }

 private:
  Device* device_;
  cublasHandle_t handle_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Blas>> Blas::Create(Device* device) {
  StreamOf(device);
  cublasHandle_t handle;
  if (absl::Status s = FromCublas(cublasCreate(&handle), "cublasCreate"); !s.ok()) return s;
  if (absl::Status s = FromCublas(cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH), "cublasSetMathMode"); !s.ok()) {
    cublasDestroy(handle);
    return s;
  }
  return std::make_unique<CublasBlas>(device, handle);
}

}  // namespace tidegate::cuda
