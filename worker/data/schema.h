#pragma once
// What to take out of a row: the job's data format and features, compiled to column numbers.
// Immutable plain data once compiled; share it by shared_ptr<const DataSchema>.
//
// Column names: CRITEO_TSV and GENERATED `label`, `I1`.., `C1`..; LIBSVM `label`, `#k` (the k-th
// token, from 1), `*` (every token). A LIBSVM token is `index:value`: an id feature takes the index
// as its text and, with use_values, the value as its weight; a numeric feature takes the value.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/job.pb.h"
#include "worker/data/batch.h"

namespace tidegate {

inline constexpr uint32_t kCriteoNumeric = 13;
inline constexpr uint32_t kCriteoCategories = 26;

struct DataSchema {
  static constexpr uint32_t kLabelColumn = 0;
  static constexpr uint32_t kAllTokens = ~0u;  // LIBSVM "*"

  struct Feature {  // looks rows up; in the order of Batch::features
    std::string name;
    uint32_t column = 0;
    uint64_t salt = 0;  // hashed
    Key missing_key = 0;
    bool log2_bucket = false;
    bool skip_missing = false;
    bool use_values = false;
    uint32_t max_values = 0;  // 0: all
  };
  struct Numeric {  // in the order of Batch::numeric
    std::string name;
    uint32_t column = 0;
    NumericFeature::Transform transform = NumericFeature::NONE;
    float missing_value = 0;
  };
  struct Label {  // in the order of Batch::labels: the tasks' distinct label columns
    std::string name;
    uint32_t column = 0;
    bool unit_interval = false;  // BCE: outside [0, 1] is a bad line (-1 counts as 0)
  };

  DataConfig::Format format = DataConfig::UNSET;
  uint32_t columns = 0;  // of a row; 0: any number (LIBSVM)
  std::vector<Feature> features;
  std::vector<Numeric> numeric;
  std::vector<Label> labels;
  GeneratorConfig generator;  // GENERATED

  // `config` is resolved (braces expanded). INVALID_ARGUMENT names the feature or task.
  static absl::StatusOr<DataSchema> Compile(const JobConfig& config);

  // Gives `batch` this schema's columns, all empty.
  void Prepare(Batch* batch) const;
};

// One line on what a row of `format` looks like, for messages.
const char* FormatHint(DataConfig::Format format);

}  // namespace tidegate
