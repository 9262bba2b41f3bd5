#pragma once
// The safetensors format (https://github.com/huggingface/safetensors, "Format"): u64 length of a JSON
// header, the header { name: { dtype, shape, data_offsets } }, raw little-endian tensors without gaps.
// Of its element types those that exports hold: U64 and F32 are written; reading knows F64, I64, BF16,
// F16, I32, U32, U8 too, by their size. Not thread-safe.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"

namespace tidegate {

struct TensorInfo {
  std::string name;
  std::string dtype;  // "U64", "F32"
  std::vector<uint64_t> shape;
};

// Writes tensors in the order declared; a file appears by Finish only.
class SafetensorsWriter {
 public:
  struct Written {
    uint64_t bytes = 0;
    uint64_t xxh3 = 0;
  };
  // Puts tensors of 8-byte elements first, so that all are aligned. INVALID_ARGUMENT: an unknown dtype.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      FileSystem& files, const std::string& path, std::vector<TensorInfo> tensors,
      const std::map<std::string, std::string>& metadata);
  ~SafetensorsWriter();

  // In the order of their bytes in the file.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  absl::Status Append(std::string_view bytes);
  // FAILED_PRECONDITION unless exactly what was declared came.
  absl::StatusOr<Written> Finish();

 private:
  SafetensorsWriter();
  struct Hash;

  std::vector<TensorInfo> tensors_;
  std::unique_ptr<WritableFile> file_;
  std::unique_ptr<Hash> hash_;
  std::string path_;
  uint64_t expected_ = 0;
  Written written_;
};

class SafetensorsFile {
 public:
  struct Tensor {
    TensorInfo info;
    std::string_view bytes;
    uint64_t elements = 0;
  };
  // Trusts nothing. DATA_LOSS names `name` and the tensor.
  static absl::StatusOr<SafetensorsFile> Parse(std::string bytes, const std::string& name);

  // Null: no such tensor.
  const Tensor* Find(const std::string& tensor) const;
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const std::string& name() const { return name_; }

 private:
  std::unique_ptr<const std::string> bytes_;  // its address stays when the file moves
  std::string name_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace tidegate
