#pragma once
// Inside of common/job_config: parsing into any message, and the checks of a config.

#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include "absl/status/status.h"
#include "proto/job.pb.h"

namespace tidegate {

absl::Status ParseTextInto(std::string_view text, std::string_view file_name,
                           google::protobuf::Message* message, bool merge,
                           google::protobuf::TextFormat::ParseInfoTree* places = nullptr);

// Expands and checks; what is wrong, a line each. *expanded: names and inputs are those of a resolved config.
std::vector<std::string> ResolveProblems(JobConfig* config, bool* expanded);

// Appends one line per problem. `config` is expanded and has its defaults.
void CheckJobConfig(const JobConfig& config, std::vector<std::string>* problems);
// Its metrics, and what they need.
void CheckMetrics(const JobConfig& config, std::vector<std::string>* problems);
// Its model part, and what of the model voids a guarantee at staleness 0 with several workers.
void CheckModel(const JobConfig& config, std::vector<std::string>* problems);
void ModelWarnings(const JobConfig& config, std::vector<std::string>* warnings);
// Its data and features.
void CheckData(const JobConfig& config, std::vector<std::string>* problems);
// `low` < value (or <= with closed), value < `high` (or <=), or a problem of `field`.
void CheckRange(const std::string& field, double value, double low, bool low_closed, double high,
                bool high_closed, std::vector<std::string>* problems);

}  // namespace tidegate
