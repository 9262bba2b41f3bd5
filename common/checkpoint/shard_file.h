#pragma once
// A shard's file in a checkpoint (docs/formats.md), little endian:
//   "TGSHARD1" | header length u32 | ShardFileHeader | the tables' sections, in order, without gaps
// or "TGSHARD2": incremental (shard_merge.h), with the keys of `removed`, rising, u64 each, after each section's records.
// A section is a list of records, by rising key:
//   key u64 | kind u32 | kind 0: a row of row_bytes; kind 1: u32, samples of a key not admitted yet
// A row: 16 bytes of counters | values of each part (float32 or bfloat16, padded to 4 bytes) | optimizer
// slots. What a part holds is in the manifest's TableSpec, so a reader needs no server code.
//
// Parsing trusts nothing: every length is checked against the bytes at hand. Errors are DATA_LOSS and name
// the file. Thread-safe: free functions and const values.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/checkpoint.pb.h"
#include "proto/table.pb.h"

namespace tidegate {

inline constexpr size_t kCheckpointRowHeaderBytes = 16;

// Everything in front of the sections.
std::string EncodeShardFileHead(const ShardFileHeader& header, bool incremental = false);

class ShardFile {
 public:
  // `name` stands in errors.
  static absl::StatusOr<ShardFile> Parse(std::string bytes, std::span<const TableSpec> tables,
                                         const std::string& name);

  const ShardFileHeader& header() const { return header_; }
  // Holds only what changed since the file that it builds on.
  bool incremental() const { return incremental_; }
  // The records of a section, as they lie in it.
  std::string_view section(size_t index) const {
    return std::string_view(bytes_).substr(offsets_[index], header_.sections(static_cast<int>(index)).bytes());
  }
  Key removed(size_t index, size_t i) const;
  const std::string& name() const { return name_; }

 private:
  std::string bytes_;
  std::string name_;
  ShardFileHeader header_;
  bool incremental_ = false;
  std::vector<size_t> offsets_;
};

// A whole record, its key in front.
using RecordVisitor = std::function<void(Key key, std::string_view record)>;

// Whether a record is a row; else it is a key that is not admitted yet.
bool IsRow(std::string_view record);

// The records of a section, in order, as they lie in it: only their lengths are checked.
absl::Status VisitRecords(const ShardFile& file, size_t section, const RecordVisitor& visit);

// Values of a row on the wire: all parts in order, as float32.
using RowVisitor = std::function<void(Key key, std::span<const float> values)>;

// The rows of a section, in order; keys not admitted are passed over.
absl::Status VisitRows(const ShardFile& file, size_t section, const TableSpec& table,
                       const RowVisitor& visit);

}  // namespace tidegate
