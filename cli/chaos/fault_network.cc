#include "cli/chaos/fault_network.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace tidegate::cli {
namespace {

constexpr char kNames[] = "/run/netns";  // where `ip netns` keeps them
constexpr char kNeeds[] = "cutting links needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN) and the programs ip (iproute2) and nft (nftables)";

std::string NamespaceOf(const std::string& address) { return "tg" + address.substr(address.rfind('.') + 1); }

absl::Status Tool(const std::vector<std::string>& argv) {
  std::vector<char*> pointers;
  for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError(absl::StrCat("fork: ", std::strerror(errno)));
  if (pid == 0) {
    const int nothing = open("/dev/null", O_RDWR);
    for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nothing, fd);
    execvp(pointers[0], pointers.data());
    _exit(127);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("`", absl::StrJoin(argv, " "), "` failed with status ",
                                                    WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), ": ", kNeeds));
}

absl::Status Tools(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    if (absl::Status s = Tool(absl::StrSplit(line, ' ')); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Failed(const char* what) {
  return absl::FailedPreconditionError(absl::StrCat(what, ": ", std::strerror(errno), ": ", kNeeds));
}

}  // namespace

absl::StatusOr<std::unique_ptr<FaultNetwork>> FaultNetwork::Create() {
  if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return Failed("unshare");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Failed("mount --make-rprivate");
  if (mkdir(kNames, 0755) != 0 && errno != EEXIST) return Failed(kNames);
  if (mount("tmpfs", kNames, "tmpfs", 0, nullptr) != 0) return Failed("mount of a tmpfs");
  const absl::Status made = Tools({"ip link set lo up", "ip link add tgbr0 type bridge", "ip link set tgbr0 up", "ip addr add 10.77.0.1/24 dev tgbr0",
                                   "nft add table bridge tidegate",
                                   "nft add chain bridge tidegate cuts { type filter hook forward priority 0 ; }"});
  if (!made.ok()) return made;
  return std::unique_ptr<FaultNetwork>(new FaultNetwork());
}

absl::StatusOr<std::vector<std::string>> FaultNetwork::Enter(const std::string& name) {
  if (!addresses_.contains(name)) {
    const std::string address = absl::StrCat("10.77.0.", addresses_.size() + 2);
    const std::string ns = NamespaceOf(address);
    const absl::Status made = Tools({"ip netns add " + ns, absl::StrCat("ip link add ", ns, " type veth peer name e0 netns ", ns),
                                     absl::StrCat("ip link set ", ns, " master tgbr0 up"), absl::StrCat("ip -n ", ns, " addr add ", address, "/24 dev e0"),
                                     absl::StrCat("ip -n ", ns, " link set e0 up"), absl::StrCat("ip -n ", ns, " link set lo up")});
    if (!made.ok()) return made;
    addresses_[name] = address;
  }
  for (const char* path : {"/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"}) {
    if (access(path, X_OK) == 0) return std::vector<std::string>{path, "netns", "exec", NamespaceOf(addresses_[name])};
  }
  return absl::FailedPreconditionError(absl::StrCat("no ip: ", kNeeds));
}

absl::Status FaultNetwork::Cut(const std::string& from, const std::string& to) {
  return Tools({absl::StrCat("nft add rule bridge tidegate cuts ip saddr ", addresses_.at(from), " ip daddr ", addresses_.at(to), " drop")});
}

absl::Status FaultNetwork::Heal() { return Tools({"nft flush chain bridge tidegate cuts"}); }

}  // namespace tidegate::cli
