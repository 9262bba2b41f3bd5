#pragma once
// What to take out of a row: the job's data format and features, compiled to column numbers.
// Immutable plain data once compiled; share it by shared_ptr<const DataSchema>.
//
// Column names: CRITEO_TSV and GENERATED `label`, `I1`.., `C1`..; LIBSVM `label`, `#k` (the k-th
// token, from 1), `*` (every token); LIBFFM `label`, `#f` (the values of field f), `*`; CSV, NPZ and
// PARQUET the data's own; NCF_NEGATIVES `label`, `user`, `item`. A token is `index:value`: an id
// feature takes the index as its text and, with use_values, the value as its weight; a numeric
// feature takes the value.

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
  static constexpr uint32_t kAllTokens = ~0u;      // LIBSVM, LIBFFM "*"
  static constexpr uint32_t kNoColumn = ~0u - 1;

  struct Feature {  // looks rows up; in the order of Batch::features
    std::string name;
    uint32_t column = 0;
    uint64_t salt = 0;  // hashed
    Key missing_key = 0;
    bool log2_bucket = false;
    bool skip_missing = false;
    bool use_values = false;
    uint32_t max_values = 0;  // 0: all
    bool multi_valued = false;
    IdFeature::Overlong overlong = IdFeature::KEEP_FIRST;
    uint64_t hash_buckets = 0;  // 0: all keys
    char separator = '|';       // CSV
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
    bool unit_interval = false;  // BCE, BPR: outside [0, 1] is a bad line (-1 counts as 0)
  };
  struct Negatives {  // of training data
    uint32_t column = 0;
    uint32_t per_positive = 0;  // 0: none are drawn
    uint64_t values = 0;
    uint32_t seen_by = kNoColumn;
  };
  struct Ranking {  // data.full_ranking
    uint32_t item = kNoColumn;  // kNoColumn: none
    std::vector<uint32_t> attributes;
  };
  struct Csv {
    char delimiter = ',';
    bool header = true;
    bool quotes = true;
    std::vector<std::string> names;  // of all columns, in order
  };
  // Where the schema is not for data.train as `config` has it.
  struct Side {
    DataConfig::Format format = DataConfig::UNSET;  // UNSET: data.format
    std::vector<std::string> names;                 // CSV; empty: data.csv.column
    bool training = true;                           // draws negatives
    bool targets = true;  // false: labels, weights, groups and timestamps are not read, and need no column
  };

  DataConfig::Format format = DataConfig::UNSET;
  uint32_t columns = 0;  // of a row; 0: any number (LIBSVM)
  bool targets = true;   // false: every label is NaN, and a line may lack the one in front
  std::vector<Feature> features;
  std::vector<Numeric> numeric;
  std::vector<Label> labels;
  uint32_t weight = kNoColumn;
  uint32_t group = kNoColumn;
  uint32_t timestamp = kNoColumn;
  Negatives negatives;
  Ranking ranking;
  Csv csv;
  GeneratorConfig generator;  // GENERATED

  // `config` is resolved (braces expanded). INVALID_ARGUMENT names the feature or task.
  static absl::StatusOr<DataSchema> Compile(const JobConfig& config, const Side& side);
  static absl::StatusOr<DataSchema> Compile(const JobConfig& config);  // data.train

  // Of a row that is decoded, without those that a line of many rows gives by itself.
  size_t rows_per_line() const { return 1 + size_t{negatives.per_positive}; }

  // Gives `batch` this schema's columns, all empty.
  void Prepare(Batch* batch) const;
};

// One line on what a row of `format` looks like, for messages.
const char* FormatHint(DataConfig::Format format);

}  // namespace tidegate
