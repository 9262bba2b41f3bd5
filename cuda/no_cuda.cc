// What a build without a CUDA toolkit links in place of device.cu and blas.cu.
#include "cuda/blas.h"
#include "cuda/device.h"

namespace tidegate::cuda {
namespace {
absl::Status NotBuilt() {
  return absl::UnimplementedError(
      "this build has no CUDA: it was made without a toolkit (set CUDA_HOME, or install one at "
      "/usr/local/cuda, and build again)");
}
}  // namespace

absl::StatusOr<std::unique_ptr<Device>> Device::Open(int /*ordinal*/) { return NotBuilt(); }
absl::StatusOr<std::unique_ptr<Blas>> Blas::Create(Device* /*device*/) { return NotBuilt(); }

}  // namespace tidegate::cuda
