#include "common/json.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace tidegate {
namespace {

TEST_CASE("fields stand in the order of the calls, on a line or a line each") {
  JsonObject object;
  object.Text("z", "x").Integer("a", -3).Bool("m", true).Raw("l", JsonArray({"1", "2"}));
  CHECK(object.Build() == R"({"z": "x", "a": -3, "m": true, "l": [1, 2]})");
  CHECK(object.BuildLines() == "{\n  \"z\": \"x\",\n  \"a\": -3,\n  \"m\": true,\n  \"l\": [1, 2]\n}\n");
  CHECK(JsonObject().Build() == "{}");
}

TEST_CASE("text is escaped, and numbers that JSON has not are null") {
  CHECK(JsonQuoted("a\"b\\c\n\x01") == R"("a\"b\\c\u000a\u0001")");
  CHECK(JsonObject().Number("a", 0.1f).Number("b", 1e-4f).Number("c", 1.f).Number("d", INFINITY).Build() ==
        R"({"a": 0.1, "b": 1e-04, "c": 1, "d": null})");
  CHECK(std::stof(JsonNumber(16777217.0f / 3)) == 16777217.0f / 3);
  CHECK(JsonObject().Number("n", NAN).Number("i", INFINITY).Number("h", 0.5).Build() == R"({"n": null, "i": null, "h": 0.5})");
}

}  // namespace
}  // namespace tidegate
