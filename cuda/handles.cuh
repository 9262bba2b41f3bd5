#pragma once
// What the .cu files share: the device's stream, and CUDA errors as Status.

#include <cuda_runtime.h>

#include <string>

#include "absl/status/status.h"
#include "cuda/device.h"

namespace tidegate::cuda {

// `what` was being done when `error` came back; OK for cudaSuccess.
absl::Status FromCuda(cudaError_t error, const std::string& what);
// The stream of a Device made by Device::Open, made current for the calling thread.
cudaStream_t StreamOf(Device* device);

}  // namespace tidegate::cuda
