#include "server/shard/parked_pulls.h"

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {

uint64_t FingerprintOf(const wire::PullRequest& request) {
  uint64_t hash = request.tables.size();
  for (const wire::TableKeys& table : request.tables) {
    const wire::Bytes bytes = table.keys.bytes();
    hash = StableHash(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
                      Mix64(hash ^ table.table));
  }
  return hash;
}

bool SameCaller(const wire::PullRequest& a, const wire::PullRequest& b) {
  return a.stamp.incarnation == b.stamp.incarnation && a.clock == b.clock && a.eval == b.eval;
}

}  // namespace

absl::StatusOr<std::optional<CallToken>> ParkedPulls::Park(PullCall call) {
  const uint64_t fingerprint = FingerprintOf(call.request);
  size_t of_worker = 0;
  for (auto& [bound, parked] : parked_) {
    if (parked.call.request.stamp.incarnation != call.request.stamp.incarnation) continue;
    ++of_worker;
    if (SameCaller(parked.call.request, call.request) && parked.fingerprint == fingerprint &&
        bound == call.request.bound) {
      const CallToken replaced = parked.call.token;
      parked.call = std::move(call);
      return std::optional<CallToken>(replaced);
    }
  }
  if (of_worker >= max_per_worker_) {
    return absl::UnavailableError(absl::StrCat("worker ", call.request.stamp.incarnation, " has ",
                                               of_worker, " parked pulls, the most allowed"));
  }
  const Clock bound = call.request.bound;
  parked_.emplace(bound, Parked{std::move(call), fingerprint});
  return std::optional<CallToken>();
}

std::vector<PullCall> ParkedPulls::TakeReleased(Clock released) {
  std::vector<PullCall> out;
  while (!parked_.empty() && !MustWait(parked_.begin()->first, released)) {
    out.push_back(std::move(parked_.begin()->second.call));
    parked_.erase(parked_.begin());
  }
  return out;
}

std::vector<PullCall> ParkedPulls::TakeIf(const std::function<bool(const PullCall&)>& condition) {
  std::vector<PullCall> out;
  for (auto it = parked_.begin(); it != parked_.end();) {
    if (condition(it->second.call)) {
      out.push_back(std::move(it->second.call));
      it = parked_.erase(it);
    } else {
      ++it;
    }
  }
  return out;
}

bool ParkedPulls::Cancel(CallToken token) {
  for (auto it = parked_.begin(); it != parked_.end(); ++it) {
    if (it->second.call.token != token) continue;
    parked_.erase(it);
    return true;
  }
  return false;
}

}  // namespace tidegate
