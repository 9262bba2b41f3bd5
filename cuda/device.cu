#include "cuda/device.h"

#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"
#include "cuda/handles.cuh"

namespace tidegate::cuda {

absl::Status FromCuda(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(what, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

namespace {

class CudaBuffer final : public DeviceBuffer {
 public:
  CudaBuffer(float* data, size_t size) : data_(data), size_(size) {}
  ~CudaBuffer() override { cudaFree(data_); }
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;

  size_t size() const override { return size_; }
  float* data() override { return data_; }
  const float* data() const override { return data_; }

 private:
  float* data_;
  size_t size_;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, cudaStream_t stream, const cudaDeviceProp& properties)
      : ordinal_(ordinal), stream_(stream), properties_(properties) {}
  ~CudaDevice() override { cudaStreamDestroy(stream_); }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  cudaStream_t stream() {
    cudaSetDevice(ordinal_);
    return stream_;
  }
  std::string name() const override { return properties_.name; }
  size_t memory_bytes() const override { return properties_.totalGlobalMem; }

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t size) override {
    cudaSetDevice(ordinal_);
    if (size > properties_.totalGlobalMem / sizeof(float)) return Exhausted(size);
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, size * sizeof(float));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky: the device goes on
      return Exhausted(size);
    }
    if (error != cudaSuccess) return FromCuda(error, "cudaMalloc");
    return std::make_unique<CudaBuffer>(static_cast<float*>(data), size);
  }

  absl::Status CopyToDevice(std::span<const float> from, DeviceBuffer* to) override {
    if (absl::Status s = CheckSizes(from.size(), to->size()); !s.ok()) return s;
    return Copy(to->data(), from.data(), from.size_bytes(), cudaMemcpyHostToDevice);
  }
  absl::Status CopyToHost(const DeviceBuffer& from, std::span<float> to) override {
    if (absl::Status s = CheckSizes(from.size(), to.size()); !s.ok()) return s;
    return Copy(to.data(), from.data(), to.size_bytes(), cudaMemcpyDeviceToHost);
  }
  absl::Status Synchronize() override {
    return FromCuda(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  }

 private:
  static absl::Status CheckSizes(size_t from, size_t to) {
    if (from == to) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("copy of ", from, " floats into a buffer of ", to));
  }
  absl::Status Copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, stream());
    if (error != cudaSuccess) return FromCuda(error, "cudaMemcpyAsync");
    return Synchronize();
  }
  absl::Status Exhausted(size_t size) {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    return absl::ResourceExhaustedError(absl::StrCat("device ", ordinal_, " (", name(), ") has no room for ",
                                                     size, " floats: ", free_bytes, " of ", total_bytes,
                                                     " bytes are free"));
  }

  int ordinal_;
  cudaStream_t stream_;
  cudaDeviceProp properties_;
};

}  // namespace

cudaStream_t StreamOf(Device* device) { return static_cast<CudaDevice*>(device)->stream(); }

absl::StatusOr<std::unique_ptr<Device>> Device::Open(int ordinal) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    return absl::UnavailableError(absl::StrCat("no CUDA device: ", cudaGetErrorString(error)));
  }
  if (ordinal < 0 || ordinal >= count) {
    return absl::UnavailableError(
        absl::StrCat("no CUDA device ", ordinal, ": this machine has ", count));
  }
  cudaDeviceProp properties;
  if (absl::Status s = FromCuda(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties"); !s.ok()) {
    return s;
  }
  if (absl::Status s = FromCuda(cudaSetDevice(ordinal), "cudaSetDevice"); !s.ok()) return s;
  cudaStream_t stream;
  if (absl::Status s = FromCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate"); !s.ok()) {
    return s;
  }
  return std::make_unique<CudaDevice>(ordinal, stream, properties);
}

}  // namespace tidegate::cuda
