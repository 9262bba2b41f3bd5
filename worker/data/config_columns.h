#pragma once
// Whether a job's columns are in its data: what `tidegate config --check` can tell before the job. Reads the first line
// of CSV files that are there, and nothing else. Thread-safe (a function).

#include <string>
#include <vector>

#include "proto/job.pb.h"

namespace tidegate {

// `config` is resolved but for problems that were found in it. A line each: headers that cannot be read or are not
// data.csv.column's, columns of features, labels, data.weight, ... that the first file does not have, with the nearest.
std::vector<std::string> ColumnProblems(const JobConfig& config);

}  // namespace tidegate
