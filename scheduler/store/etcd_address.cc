#include "scheduler/store/etcd_address.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/host_port.h"

namespace tidegate {
namespace {

constexpr char kScheme[] = "etcd://";
constexpr char kDefaultPrefix[] = "/tidegate";

bool IsPrefix(const std::string& prefix) {
  const std::vector<std::string> parts = absl::StrSplit(prefix.substr(1), '/');
  for (const std::string& part : parts) {
    if (part.empty()) return false;
    for (const char c : part) {
      if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-') return false;
    }
  }
  return true;
}

}  // namespace

std::string EtcdAddress::Url() const { return absl::StrCat(kScheme, absl::StrJoin(endpoints, ","), prefix); }

bool IsEtcdAddress(const std::string& state) { return absl::StrContains(state, "://") || absl::StartsWith(state, "etcd:"); }

absl::StatusOr<EtcdAddress> ParseEtcdAddress(const std::string& state) {
  const auto wrong = [&](const std::string& why) {
    return absl::InvalidArgumentError(
        absl::StrCat("--state=", state, ": ", why, "; write a folder, or etcd://HOST:PORT[,HOST:PORT...][/PREFIX]"));
  };
  if (!absl::StartsWith(state, kScheme)) return wrong("no scheme but etcd:// is known");
  const std::string rest = state.substr(sizeof(kScheme) - 1);
  const size_t slash = rest.find('/');
  const std::string hosts = rest.substr(0, slash);
  if (absl::StrContains(hosts, "@")) return wrong("etcd with user names is not supported");
  auto endpoints = SplitAddresses(hosts);
  if (!endpoints.ok()) return wrong(std::string(endpoints.status().message()));
  EtcdAddress out{*std::move(endpoints), slash == std::string::npos ? kDefaultPrefix : rest.substr(slash)};
  if (!IsPrefix(out.prefix)) {
    return wrong(absl::StrCat("\"", out.prefix, "\" is no prefix: parts of letters, digits, \".\", \"_\" and \"-\" between single slashes"));
  }
  return out;
}

}  // namespace tidegate
