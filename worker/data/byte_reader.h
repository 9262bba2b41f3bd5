#pragma once
// Bytes of a file, decompressed on the way. Errors name the file and the offset. Not thread-safe.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace tidegate {

class ByteReader {
 public:
  virtual ~ByteReader() = default;
  // Up to `size` bytes into `out`; 0 only at the end.
  virtual absl::StatusOr<size_t> Read(char* out, size_t size) = 0;
};

enum class Compression { kNone, kGzip, kZstd };
// By the name's ending: .gz, .zst.
Compression CompressionOf(const std::string& path);

// Opens a file at `offset` (0 for a compressed one). NOT_FOUND, PERMISSION_DENIED; INVALID_ARGUMENT
// for a folder, or when name and content disagree on the compression.
absl::StatusOr<std::unique_ptr<ByteReader>> OpenFile(const std::string& path, uint64_t offset);

// The same without regard to names and content: the file's own bytes.
absl::StatusOr<std::unique_ptr<ByteReader>> OpenBytes(const std::string& path, uint64_t offset);

// Bytes of the file as it lies on disk.
absl::StatusOr<uint64_t> FileBytes(const std::string& path);

// Decompress what `input` gives; several members or frames in a row are one text. DATA_LOSS when it
// is damaged or cut off. `name` stands in messages.
std::unique_ptr<ByteReader> NewGzipReader(std::unique_ptr<ByteReader> input, std::string name);
// Deflate without a header, to its end (RFC 1951); what follows is not read.
std::unique_ptr<ByteReader> NewDeflateReader(std::unique_ptr<ByteReader> input, std::string name);
std::unique_ptr<ByteReader> NewZstdReader(std::unique_ptr<ByteReader> input, std::string name);

}  // namespace tidegate
