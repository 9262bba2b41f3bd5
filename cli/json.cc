#include "cli/json.h"

#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <cstdio>

namespace tidegate::cli {

std::string JsonQuoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const unsigned char u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (u < 0x20) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", u);
      out += buffer;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string JsonNumber(double value) {
  if (!std::isfinite(value)) return "null";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", value);
  return buffer;
}

std::string JsonArray(const std::vector<std::string>& elements) {
  std::string out = "[";
  for (size_t i = 0; i < elements.size(); ++i) out += (i ? ", " : "") + elements[i];
  return out + "]";
}

void JsonObject::Name(std::string_view name) {
  if (!body_.empty()) body_ += ", ";
  body_ += JsonQuoted(name) + ": ";
}

JsonObject& JsonObject::Text(std::string_view name, std::string_view value) {
  return Raw(name, JsonQuoted(value));
}
JsonObject& JsonObject::Number(std::string_view name, double value) { return Raw(name, JsonNumber(value)); }
JsonObject& JsonObject::Integer(std::string_view name, int64_t value) {
  return Raw(name, std::to_string(value));
}
JsonObject& JsonObject::Bool(std::string_view name, bool value) { return Raw(name, value ? "true" : "false"); }
JsonObject& JsonObject::Raw(std::string_view name, std::string_view json) {
  Name(name);
  body_ += json;
  return *this;
}

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
