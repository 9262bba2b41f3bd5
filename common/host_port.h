#pragma once
// "HOST:PORT", "[v6]:PORT", and lists of them. Functions only.

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tidegate {

struct HostPort {
  std::string host;  // without brackets
  int port = 0;
};

// INVALID_ARGUMENT: no port, one out of range, or an IPv6 address without brackets.
absl::StatusOr<HostPort> SplitHostPort(const std::string& address);
std::string JoinHostPort(const std::string& host, int port);
// "HOST:PORT" or several, by commas, that can be called: no port 0, none twice.
absl::StatusOr<std::vector<std::string>> SplitAddresses(const std::string& addresses);

}  // namespace tidegate
