#include "common/wiring/member.h"

#include "common/wiring/daemon.h"

DEFINE_string(scheduler, "", "");
DEFINE_string(name, "", "");
DEFINE_int32(join_timeout, 60, "");
DEFINE_int32(scheduler_timeout, 600, "");

namespace tidegate {

FlagGroup MemberFlags() {
  constexpr int kSecondsMax = 1 << 20;
  return {"the cluster",
          {{"scheduler", "HOST:PORT[,...]", "the job's scheduler, or several of which one leads (required)"},
           Ranged({"join_timeout", "SECONDS", "how long to wait for the scheduler"}, 0, kSecondsMax),
           Ranged({"scheduler_timeout", "SECONDS", "without an answer of the scheduler, then gives up; 0: never"}, 0, kSecondsMax),
           {"name", "NAME", "in status and logs (default: host and pid)"}}};
}

absl::Status CheckMemberFlags() { return CheckAddressFlag("scheduler", FLAGS_scheduler); }

}  // namespace tidegate
