#pragma once
// Inside of common/job_config: what ConfigPlaces holds.

#include <google/protobuf/text_format.h>

#include <string>
#include <vector>

#include "common/job_config/places.h"

namespace tidegate {

struct ConfigPlaces::Written {
  JobConfig config;
  google::protobuf::TextFormat::ParseInfoTree tree;  // of the text, without overrides
  std::vector<std::string> overrides;
};

}  // namespace tidegate
