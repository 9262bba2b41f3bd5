#pragma once
// Bytes of an endless source: standard input ("-") or a named pipe. They come once: what was read is not
// read again.

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/data/byte_reader.h"

namespace tidegate {

// Waits for a writer and for its bytes; ends when the last writer has closed. Once *cancelled, Read() is
// CANCELLED within a tenth of a second. NOT_FOUND; INVALID_ARGUMENT for a folder.
absl::StatusOr<std::unique_ptr<ByteReader>> OpenStream(
    const std::string& path, std::shared_ptr<const std::atomic<bool>> cancelled);

}  // namespace tidegate
