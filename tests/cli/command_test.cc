#include "cli/command.h"

#include <gflags/gflags.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

DEFINE_int32(test_number, 3, "");
DEFINE_bool(test_switch, false, "");
DEFINE_int32(test_ranged, 1, "");
DEFINE_string(test_text, "", "");

namespace tidegate::cli {
namespace {

Command Example() {
  return {"example",
          "FILE",
          "shows how",
          {{"test_number", "N", "a number"},
           {"test_switch", "", "a switch"},
           {"test_text", "TEXT", "words"},
           Ranged({"test_ranged", "N", "within bounds"}, -1, 64),
           {"set", "path=value", "override", true}},
          nullptr};
}

std::string Error(const std::vector<std::string>& words) {
  return std::string(ParseArguments(Example(), words).status().message());
}

TEST_CASE("flags stand before and after arguments, with = or as two words") {
  auto parsed = ParseArguments(Example(), {"a", "--test_number=7", "--test_text", "x y", "--test_switch", "b"});
  REQUIRE(parsed.ok());
  CHECK(parsed->positional == std::vector<std::string>{"a", "b"});
  CHECK(FLAGS_test_number == 7);
  CHECK(FLAGS_test_text == "x y");
  CHECK(FLAGS_test_switch);
  REQUIRE(ParseArguments(Example(), {"--test_switch=false"}).ok());
  CHECK_FALSE(FLAGS_test_switch);
}

TEST_CASE("a repeated flag keeps every value, in order") {
  auto parsed = ParseArguments(Example(), {"--set", "a.b=1", "--set=c=x=y"});
  REQUIRE(parsed.ok());
  CHECK(parsed->Repeated("set") == std::vector<std::string>{"a.b=1", "c=x=y"});
  CHECK(parsed->Repeated("other").empty());
}

TEST_CASE("after -- nothing is a flag") {
  auto parsed = ParseArguments(Example(), {"--", "--test_number=9"});
  REQUIRE(parsed.ok());
  CHECK(parsed->positional == std::vector<std::string>{"--test_number=9"});
}

TEST_CASE("an unknown flag, one of another command and a bad value are refused by name") {
  CHECK(Error({"--test_nubmer=1"}) == "`tidegate example` has no flag --test_nubmer (did you mean --test_number?)");
  CHECK(Error({"--help_me"}).find("--help_me") != std::string::npos);
  CHECK(Error({"--test_number=many"}) == "--test_number=many: not a number");
  CHECK(Error({"--test_number"}) == "--test_number needs a value: N");
  CHECK(Error({"--test_text="}) == "--test_text needs a value: TEXT");
  CHECK(Error({"--set="}) == "--set needs a value: path=value");
}

TEST_CASE("a number out of its range is refused by flag and range, and changes nothing") {
  REQUIRE(ParseArguments(Example(), {"--test_ranged=64"}).ok());
  for (const char* bad : {"65", "-2", "many", "", "99999999999999999999"}) {
    CHECK(Error({"--test_ranged", bad}) == std::string("--test_ranged=") + bad + ": a whole number from -1 to 64");
  }
  CHECK(FLAGS_test_ranged == 64);
}

TEST_CASE("help lists every flag with its default") {
  const std::string help = HelpText(Example());
  CHECK(help.find("tidegate example FILE\n  shows how\n") == 0);
  CHECK(help.find("--test_number=N") != std::string::npos);
  CHECK(help.find("(default 3)") != std::string::npos);
  CHECK(help.find("(repeatable)") != std::string::npos);
}

}  // namespace
}  // namespace tidegate::cli
