#pragma once
// --state=etcd://HOST:PORT[,HOST:PORT...][/PREFIX]. Functions only.

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tidegate {

struct EtcdAddress {
  std::vector<std::string> endpoints;  // HOST:PORT
  std::string prefix;                  // "/a/b": of all keys
  std::string Url() const;
};

// Whether it is meant as one: any "scheme://", and "etcd:...". A folder of such a name is written "./etcd:...".
bool IsEtcdAddress(const std::string& state);
// INVALID_ARGUMENT: another scheme, a user name, no or bad or repeated endpoints, a prefix with empty parts or
// characters beyond letters, digits and "._-". The message has the text. Without a prefix: "/tidegate".
absl::StatusOr<EtcdAddress> ParseEtcdAddress(const std::string& state);

}  // namespace tidegate
