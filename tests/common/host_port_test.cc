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
    CHECK_THAT(std::string(at.status().message()), Catch::Contains(std::string("\"") + text + "\""));
  }
}

}  // namespace
}  // namespace tidegate
