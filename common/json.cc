#include "common/json.h"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace tidegate {

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

std::string JsonNumber(double value, int digits) {
  if (!std::isfinite(value)) return "null";
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.*g", digits, value);
  return buffer;
}

std::string JsonNumber(float value) {
  if (!std::isfinite(value)) return "null";
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end);
}

std::string JsonArray(const std::vector<std::string>& elements) {
  std::string out = "[";
  for (size_t i = 0; i < elements.size(); ++i) out += (i ? ", " : "") + elements[i];
  return out + "]";
}

JsonObject& JsonObject::Text(std::string_view name, std::string_view value) {
  return Raw(name, JsonQuoted(value));
}
JsonObject& JsonObject::Number(std::string_view name, double value) { return Raw(name, JsonNumber(value)); }
JsonObject& JsonObject::Number(std::string_view name, float value) { return Raw(name, JsonNumber(value)); }
JsonObject& JsonObject::Integer(std::string_view name, int64_t value) {
  return Raw(name, std::to_string(value));
}
JsonObject& JsonObject::Bool(std::string_view name, bool value) { return Raw(name, value ? "true" : "false"); }
JsonObject& JsonObject::Raw(std::string_view name, std::string_view json) {
  fields_.push_back(JsonQuoted(name) + ": " + std::string(json));
  return *this;
}

std::string JsonObject::Build() const {
  std::string out = "{";
  for (size_t i = 0; i < fields_.size(); ++i) out += (i > 0 ? ", " : "") + fields_[i];
  return out + "}";
}
std::string JsonObject::BuildLines() const {
  std::string out = "{";
  for (size_t i = 0; i < fields_.size(); ++i) out += (i > 0 ? ",\n  " : "\n  ") + fields_[i];
  return out + "\n}\n";
}

}  // namespace tidegate
