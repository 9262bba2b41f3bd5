#pragma once
// JSON as the subcommands read it (summaries); written by common/json.h.

#include <string>
#include <string_view>

#include <google/protobuf/struct.pb.h>

#include "absl/status/statusor.h"
#include "common/json.h"

namespace tidegate::cli {

absl::StatusOr<google::protobuf::Struct> ParseJson(std::string_view text);
// Null where there is none.
const google::protobuf::Value* Field(const google::protobuf::Struct& object, const std::string& name);
double NumberField(const google::protobuf::Struct& object, const std::string& name, double otherwise);
std::string TextField(const google::protobuf::Struct& object, const std::string& name);

}  // namespace tidegate::cli
