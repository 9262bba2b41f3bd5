#pragma once
// Arrays of an .npz file (numpy's format, NEP 1; in a ZIP file) as lines of text: row r of each wanted
// array, as columnar formats are read (columnar.h).

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/byte_reader.h"

namespace tidegate {

// INVALID_ARGUMENT where an array is missing, has another number of rows than the first, or a dtype
// that is not read: bool, integers, float32, float64, S and U, little endian, C order, are. Arrays of
// more than one dimension have several values a row.
absl::StatusOr<std::unique_ptr<ByteReader>> OpenNpzText(const std::string& path,
                                                        const std::vector<std::string>& columns);

}  // namespace tidegate
