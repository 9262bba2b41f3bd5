#pragma once
// Entries of a ZIP file (PKWARE APPNOTE 6.3.10: stored or deflated, ZIP64, one disk, no encryption).

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/byte_reader.h"

namespace tidegate {

struct ZipEntry {
  std::string name;
  uint64_t header = 0;      // where its local header is
  uint64_t compressed = 0;  // bytes
  uint64_t size = 0;        // bytes
  uint32_t crc = 0;
  uint16_t method = 0;      // 0 stored, 8 deflated
};

// The central directory. INVALID_ARGUMENT: no ZIP file, or of a kind that is not read. Every size is
// checked against the file's before it is used.
absl::StatusOr<std::vector<ZipEntry>> ReadZipDirectory(const std::string& path);

// The entry's bytes, decompressed. DATA_LOSS where they are damaged, cut off, or fail the checksum.
absl::StatusOr<std::unique_ptr<ByteReader>> OpenZipEntry(const std::string& path,
                                                         const ZipEntry& entry);

}  // namespace tidegate
