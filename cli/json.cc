#include "cli/json.h"

#include <google/protobuf/util/json_util.h>

namespace tidegate::cli {

absl::StatusOr<google::protobuf::Struct> ParseJson(std::string_view text) {
  google::protobuf::Struct out;
  const auto status = google::protobuf::util::JsonStringToMessage(std::string(text), &out);
  if (!status.ok()) return absl::InvalidArgumentError(status.ToString());
  return out;
}

const google::protobuf::Value* Field(const google::protobuf::Struct& object, const std::string& name) {
  const auto it = object.fields().find(name);
  return it == object.fields().end() ? nullptr : &it->second;
}

double NumberField(const google::protobuf::Struct& object, const std::string& name, double otherwise) {
  const google::protobuf::Value* value = Field(object, name);
  return value != nullptr && value->has_number_value() ? value->number_value() : otherwise;
}

std::string TextField(const google::protobuf::Struct& object, const std::string& name) {
  const google::protobuf::Value* value = Field(object, name);
  return value != nullptr && value->has_string_value() ? value->string_value() : "";
}

}  // namespace tidegate::cli
