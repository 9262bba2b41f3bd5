#include "common/host_port.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

TEST_CASE("an address is cut in host and port, and put together again") {
  for (const char* text : {"localhost:0", "10.0.0.1:65535", "[::1]:80", "[fe80::1]:7"}) {
    const auto at = SplitHostPort(text);
    REQUIRE(at.ok());
    CHECK(at->host.find('[') == std::string::npos);
    CHECK(JoinHostPort(at->host, at->port) == text);
  }
}

TEST_CASE("what is no address is refused with the text") {
  for (const char* text : {"", "host", ":80", "host:", "host:x", "host:-1", "host:65536", "::1:80", "host:80 "}) {
    const auto at = SplitHostPort(text);
    CHECK(absl::IsInvalidArgument(at.status()));
    CHECK_THAT(std::string(at.status().message()), Catch::Contains(std::string("\"") + text + "\"") && !Catch::Contains("port 0"));
  }
}

TEST_CASE("a list of addresses holds each once, and none that cannot be called") {
  CHECK(*SplitAddresses("a:1") == std::vector<std::string>{"a:1"});
  CHECK(*SplitAddresses("a:1,[::1]:2,b:1") == std::vector<std::string>{"a:1", "[::1]:2", "b:1"});
  for (const char* text : {"", ",", "a:1,", "a:1,b", "a:1, b:2x", "a:0", "a:1,b:0", "a:1,b:2,a:1"}) {
    INFO(text);
    CHECK(absl::IsInvalidArgument(SplitAddresses(text).status()));
  }
  CHECK_THAT(std::string(SplitAddresses("a:1,b:2,a:1").status().message()), Catch::Contains("\"a:1\" is named twice"));
}

}  // namespace
}  // namespace tidegate
