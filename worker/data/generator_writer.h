#pragma once
// Writes generated rows to a file that the readers read back: CRITEO_TSV with up to 13 numeric and
// 26 categorical fields (absent and missing columns empty), else LIBSVM, a token per field (numeric
// fields `j:value`; category c `base_c + id:1`, where base_c leaves room for the fields before it;
// a missing field keeps its place as value 0 or id 0).

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "proto/job.pb.h"
#include "worker/data/generator.h"

namespace tidegate {

DataConfig::Format WrittenFormat(const Generator& generator);

// Rows [begin, end) to `path`, compressed if it ends in .gz or .zst; written beside it first and
// then renamed. `progress` (may be empty) is called now and then with the rows written.
absl::Status WriteRows(const Generator& generator, uint64_t begin, uint64_t end,
                       const std::string& path, const std::function<void(uint64_t)>& progress);

}  // namespace tidegate
