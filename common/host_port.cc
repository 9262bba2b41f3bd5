#include "common/host_port.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tidegate {

absl::StatusOr<HostPort> SplitHostPort(const std::string& address) {
  const size_t colon = address.rfind(':');
  HostPort out;
  if (colon == std::string::npos || colon == 0 ||
      address.find_first_not_of("0123456789", colon + 1) != std::string::npos ||
      !absl::SimpleAtoi(address.substr(colon + 1), &out.port) || out.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", address, "\" is no HOST:PORT"));
  }
  out.host = address.substr(0, colon);
  if (out.host.size() > 2 && out.host.front() == '[' && out.host.back() == ']') {
    out.host = out.host.substr(1, out.host.size() - 2);
  } else if (out.host.find(':') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", address, "\": write an IPv6 address in brackets"));
  }
  return out;
}

std::string JoinHostPort(const std::string& host, int port) {
  const bool v6 = host.find(':') != std::string::npos;
  return v6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::StatusOr<std::vector<std::string>> SplitAddresses(const std::string& addresses) {
  std::vector<std::string> out = absl::StrSplit(addresses, ',');
  for (auto address = out.begin(); address != out.end(); ++address) {
    const auto at = SplitHostPort(*address);
    if (!at.ok()) return at.status();
    if (at->port == 0) return absl::InvalidArgumentError(absl::StrCat("\"", *address, "\": port 0 cannot be reached"));
    if (std::find(out.begin(), address, *address) != address) {
      return absl::InvalidArgumentError(absl::StrCat("\"", *address, "\" is named twice"));
    }
  }
  return out;
}

}  // namespace tidegate
