#pragma once
// JSON as this project's processes write it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tidegate {

// Builds one object, fields in the order of the calls. NaN and infinity become null.
class JsonObject {
 public:
  JsonObject& Text(std::string_view name, std::string_view value);
  JsonObject& Number(std::string_view name, double value);
  JsonObject& Number(std::string_view name, float value);
  JsonObject& Integer(std::string_view name, int64_t value);
  JsonObject& Bool(std::string_view name, bool value);
  JsonObject& Raw(std::string_view name, std::string_view json);
  std::string Build() const;
  // A line per field, ended by one.
  std::string BuildLines() const;

 private:
  std::vector<std::string> fields_;
};

std::string JsonQuoted(std::string_view text);
std::string JsonNumber(double value, int digits = 9);  // 17 digits: exactly that double
std::string JsonNumber(float value);                   // the shortest that reads back equal
// Elements are JSON already.
std::string JsonArray(const std::vector<std::string>& elements);

}  // namespace tidegate
