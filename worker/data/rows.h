#pragma once
// A row before it is decoded, and streams of them. A text row is a line; a generated row is an
// index.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/stable_hash.h"

namespace tidegate {

struct Row {
  const char* data = nullptr;  // text without its line end; valid until the stream's next call
  uint32_t size = 0;
  uint32_t source = 0;    // index of the file; 0 for generated rows
  uint64_t position = 0;  // byte offset of the line in the (decompressed) file, or the row's index
  uint64_t line = 0;      // from 1; 0: not known (a byte range that begins inside a file)
  bool too_long = false;  // the line was longer than kMaxLineBytes; no text

  std::string_view text() const { return {data, size}; }
};

// The same for a row in every mode of reading.
inline uint64_t SampleId(uint32_t source, uint64_t position) {
  return Mix64(Mix64(source + 0x7469646567617465ull) + position);
}

class RowStream {
 public:
  virtual ~RowStream() = default;
  // False at the end.
  virtual absl::StatusOr<bool> Next(Row* row) = 0;
  // Passes over up to `rows` rows; returns how many there were.
  virtual absl::StatusOr<uint64_t> Skip(uint64_t rows) = 0;
  // From any thread: a Next() that waits for bytes ends, CANCELLED.
  virtual void Cancel() {}
  // Of Row::source, for messages.
  virtual std::string NameOf(uint32_t source) const = 0;
};

}  // namespace tidegate
