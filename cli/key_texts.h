#pragma once
// The text that a key is the hash of, found by hashing what a job's data holds. Not thread-safe.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/job.pb.h"
#include "worker/data/schema.h"

namespace tidegate::cli {

using KeyTexts = std::map<std::pair<size_t, Key>, std::string>;  // by feature of the schema

// Texts of `wanted`, each the first that has the key; what is not found is left out. Reads at most `lines` lines of
// `source`. Formats of text only (LIBSVM, LIBFFM, CRITEO_TSV, CSV) and GENERATED: of others, nothing is found.
absl::StatusOr<KeyTexts> FindKeyTexts(const DataSchema& schema, const Source& source, std::set<std::pair<size_t, Key>> wanted, uint64_t lines);

}  // namespace tidegate::cli
