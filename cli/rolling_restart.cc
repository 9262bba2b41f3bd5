#include "cli/rolling_restart.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/counted.h"

namespace tidegate::cli {
namespace {

std::string Describe(const Member& server) {
  return absl::StrCat("server ", server.incarnation(), server.name().empty() ? "" : absl::StrCat(" (", server.name(), ")"), " at ",
                      server.address());
}

const MemberStatus* Find(const GetStatusResponse& status, Incarnation server) {
  for (const MemberStatus& m : status.members()) {
    if (m.member().incarnation() == server) return &m;
  }
  return nullptr;
}

bool IsLiveServer(const MemberStatus& m) { return m.member().role() == SERVER && m.alive() && m.state() == "live"; }

bool IsNamed(const Member& server, const std::string& name) {
  return server.name() == name || server.address() == name || absl::StrCat(server.incarnation()) == name;
}

}  // namespace

absl::StatusOr<RollingRestart> RollingRestart::Plan(const GetStatusResponse& status, const std::vector<std::string>& servers,
                                                    TimeMs timeout_ms) {
  if (status.phase() == STARTING || status.phase() == FINISHED || status.phase() == FAILED) {
    return absl::FailedPreconditionError(status.phase() == STARTING ? "the job has not begun: its servers are empty" : "the job has ended");
  }
  if (status.replicas() < 2) {
    return absl::FailedPreconditionError(
        "the job has one copy of each shard (cluster.replicas): its servers cannot be restarted while it runs");
  }
  std::vector<Member> live;
  for (const MemberStatus& m : status.members()) {
    if (IsLiveServer(m)) live.push_back(m.member());
  }
  if (live.size() < 2) {
    return absl::FailedPreconditionError("only one server lives: no other one can take its shards; start another one first");
  }
  RollingRestart plan;
  plan.timeout_ms_ = timeout_ms;
  if (servers.empty()) plan.queue_.assign(live.begin(), live.end());
  for (const std::string& name : servers) {
    const auto is = [&](const Member& m) { return IsNamed(m, name); };
    const auto found = std::find_if(live.begin(), live.end(), is);
    if (found == live.end() || std::count_if(live.begin(), live.end(), is) > 1) {
      return absl::NotFoundError(absl::StrCat(found == live.end() ? "no server" : "more than one server", " of this job that lives is named \"", name,
                                              "\": give the number, the name or the address that `tidegate status` shows"));
    }
    const bool twice = std::any_of(plan.queue_.begin(), plan.queue_.end(),
                                   [&](const Member& m) { return m.incarnation() == found->incarnation(); });
    if (!twice) plan.queue_.push_back(*found);
  }
  return plan;
}

void RollingRestart::Enter(Stage stage, TimeMs now) {
  stage_ = stage;
  since_ = now;
  said_.clear();
}

RollingRestart::Step RollingRestart::Say(std::string text) {
  Step step;
  if (text != said_) step.say = said_ = std::move(text);
  return step;
}

absl::StatusOr<RollingRestart::Step> RollingRestart::Next(const GetStatusResponse& status, TimeMs now) {
  if (since_ < 0) since_ = now;
  if (status.phase() == FINISHED || status.phase() == FAILED) {
    return absl::FailedPreconditionError(absl::StrCat("the job ended before all servers were restarted (", restarted_, " were)",
                                                      status.message().empty() ? "" : ": ", status.message()));
  }
  if (stage_ != Stage::kSettling) {
    Step step = stage_ == Stage::kEmptying ? Empty(status, now) : Return(status, now);
    if (stage_ == Stage::kSettling || now - since_ <= timeout_ms_) return step;
    return TooLong(status);
  }
  return Settle(status, now);
}

absl::StatusOr<RollingRestart::Step> RollingRestart::Settle(const GetStatusResponse& status, TimeMs now) {
  if (!status.settled()) {
    if (now - since_ > timeout_ms_) return TooLong(status);
    return Say("waits until every shard has its copies");
  }
  for (const MemberStatus& m : status.members()) {
    if (m.member().role() != SERVER || !m.alive() || m.state() != "draining") continue;
    if (now - since_ > timeout_ms_) return TooLong(status);
    return Say(absl::StrCat("waits: ", Describe(m.member()), " is being drained by another command"));
  }
  const auto lives = [&](const Member& server) {
    const MemberStatus* m = Find(status, server.incarnation());
    return m != nullptr && IsLiveServer(*m);
  };
  while (!queue_.empty() && !lives(queue_.front())) queue_.pop_front();
  Step step;
  if (queue_.empty()) {
    step.done = true;
    return step;
  }
  current_ = queue_.front();
  if (std::count_if(status.members().begin(), status.members().end(), IsLiveServer) < 2) {
    return absl::FailedPreconditionError(absl::StrCat(Describe(current_), " is the only one that lives: no other one can take its shards"));
  }
  step.drain = current_.incarnation();
  return step;
}

void RollingRestart::Draining(const GetStatusResponse& status, TimeMs now) {
  queue_.pop_front();
  newest_ = 0;
  for (const MemberStatus& m : status.members()) newest_ = std::max(newest_, m.member().incarnation());
  Enter(Stage::kEmptying, now);
}

RollingRestart::Step RollingRestart::Empty(const GetStatusResponse& status, TimeMs now) {
  const MemberStatus* m = Find(status, current_.incarnation());
  if (m != nullptr && m->alive()) {
    if (m->state() == "drained") return Say(absl::StrCat(Describe(current_), " is empty, and ends"));
    return Say(absl::StrCat(Describe(current_), " holds ", m->shards() + m->backups() + m->filling(), " copies of shards"));
  }
  const bool died = m != nullptr && m->state() == "dead";
  Enter(Stage::kReturning, now);
  return Say(absl::StrCat(Describe(current_), died ? " died before it was empty" : " has ended", "; waits for it to be started again"));
}

RollingRestart::Step RollingRestart::Return(const GetStatusResponse& status, TimeMs now) {
  // Whoever joins now stands in its place: only names that were given (--name) stay the same.
  const MemberStatus* back = nullptr;
  for (const MemberStatus& m : status.members()) {
    if (!IsLiveServer(m) || m.member().incarnation() <= newest_) continue;
    if (back == nullptr || m.member().name() == current_.name()) back = &m;
  }
  if (back == nullptr) return Step();
  ++restarted_;
  Enter(Stage::kSettling, now);
  Step step;
  step.say = absl::StrCat(Describe(back->member()), " has joined in its place");
  return step;
}

absl::Status RollingRestart::TooLong(const GetStatusResponse& status) const {
  std::string left;
  for (const Member& server : queue_) absl::StrAppend(&left, left.empty() ? "; not restarted yet: " : ", ", server.incarnation());
  const int64_t seconds = timeout_ms_ / 1000;
  switch (stage_) {
    case Stage::kSettling:
      return absl::DeadlineExceededError(absl::StrCat("shards are still being copied or moved after ", seconds, " s (--wait), ",
                                                      Counted(status.degraded_shards(), "shard"), " degraded", left));
    case Stage::kEmptying:
      return absl::DeadlineExceededError(absl::StrCat(Describe(current_), " is not empty after ", seconds, " s (--wait); draining goes on", left));
    case Stage::kReturning:
      return absl::DeadlineExceededError(absl::StrCat(Describe(current_), " ended and did not come back within ", seconds,
                                                      " s (--wait): start it, with the same --scheduler", left));
  }
  return absl::InternalError("no such stage");
}

}  // namespace tidegate::cli
