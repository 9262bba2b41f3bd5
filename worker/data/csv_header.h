#pragma once
// The first line of CSV files.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/schema.h"

namespace tidegate {

// The names in the first line of `file`. INVALID_ARGUMENT for an empty or repeated name.
absl::StatusOr<std::vector<std::string>> ReadCsvHeader(const std::string& file, char delimiter);

// `line`, the first of `file`, names the columns of `csv` in their order, or INVALID_ARGUMENT says
// where it differs.
absl::Status CheckCsvHeader(const DataSchema::Csv& csv, const std::string& file,
                            std::string_view line);

}  // namespace tidegate
