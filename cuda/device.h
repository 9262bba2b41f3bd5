#pragma once
// A GPU as the rest of Tidegate sees it: memory, copies and one stream, behind plain C++. No CUDA
// header leaves cuda/ (docs/design.md, section 4). Built without a toolkit, Open answers
// UNIMPLEMENTED; without a usable device, UNAVAILABLE: both say what was found.
// A Device is not thread-safe: calls on one Device come from one thread at a time, and run in order.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tidegate::cuda {

// Device memory for `size` floats; freed with the object, which must not outlive its Device.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual size_t size() const = 0;
  virtual float* data() = 0;              // a device address: never to be dereferenced on the host
  virtual const float* data() const = 0;
};

class Device {
 public:
  static absl::StatusOr<std::unique_ptr<Device>> Open(int ordinal);
  virtual ~Device() = default;

  virtual std::string name() const = 0;
  virtual size_t memory_bytes() const = 0;
  // RESOURCE_EXHAUSTED names the size asked for and what is free.
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t size) = 0;
  // Sizes must be equal (INVALID_ARGUMENT). Done when they return.
  virtual absl::Status CopyToDevice(std::span<const float> from, DeviceBuffer* to) = 0;
  virtual absl::Status CopyToHost(const DeviceBuffer& from, std::span<float> to) = 0;
  virtual absl::Status Synchronize() = 0;
};

}  // namespace tidegate::cuda
