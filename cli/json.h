#pragma once
// JSON as the subcommands write it (one object, or one object a line) and as they read summaries.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/struct.pb.h>

#include "absl/status/statusor.h"

namespace tidegate::cli {

// Builds one object, fields in the order of the calls. NaN and infinity become null.
class JsonObject {
 public:
  JsonObject& Text(std::string_view name, std::string_view value);
  JsonObject& Number(std::string_view name, double value);
  JsonObject& Integer(std::string_view name, int64_t value);
  JsonObject& Bool(std::string_view name, bool value);
  JsonObject& Raw(std::string_view name, std::string_view json);
  std::string Build() const { return "{" + body_ + "}"; }

 private:
  void Name(std::string_view name);
  std::string body_;
};

std::string JsonQuoted(std::string_view text);
std::string JsonNumber(double value);
// Elements are JSON already.
std::string JsonArray(const std::vector<std::string>& elements);

absl::StatusOr<google::protobuf::Struct> ParseJson(std::string_view text);
// Null where there is none.
const google::protobuf::Value* Field(const google::protobuf::Struct& object, const std::string& name);
double NumberField(const google::protobuf::Struct& object, const std::string& name, double otherwise);
std::string TextField(const google::protobuf::Struct& object, const std::string& name);

}  // namespace tidegate::cli
