#pragma once
// A network of its own for a cluster under test, whose links can be cut: each process in a network namespace with
// an address of its own, joined by a bridge; this process sits on the bridge. Needs root (CAP_NET_ADMIN and
// CAP_SYS_ADMIN), `ip` and `nft`. All of it goes when the last process in it has ended. Only of the main thread.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tidegate::cli {

class FaultNetwork {
 public:
  // Moves this process into the new network: threads that exist already stay outside, so make it first.
  // FAILED_PRECONDITION says what is missing.
  static absl::StatusOr<std::unique_ptr<FaultNetwork>> Create();

  // A namespace for this process, once; what its command line begins with.
  absl::StatusOr<std::vector<std::string>> Enter(const std::string& name);
  // IP of a process that has a namespace.
  const std::string& AddressOf(const std::string& name) const { return addresses_.at(name); }
  // Nothing passes from one to the other any more. Links to this process cannot be cut.
  absl::Status Cut(const std::string& from, const std::string& to);
  // All links are whole again.
  absl::Status Heal();

 private:
  FaultNetwork() = default;
  std::map<std::string, std::string> addresses_;
};

}  // namespace tidegate::cli
