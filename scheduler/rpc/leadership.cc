#include "scheduler/rpc/leadership.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace tidegate {
namespace {

constexpr TimeMs kLookEveryMs = 150;   // at the leader's key
constexpr TimeMs kRetryMs = 100;       // of a keep-alive
constexpr TimeMs kLogEveryMs = 5000;

}  // namespace

Leadership::Leadership(Etcd* etcd, const ClockSource* clock, Options options,
                       std::function<void(const std::string&)> standby)
    : etcd_(etcd), clock_(clock), options_(std::move(options)), standby_(std::move(standby)) {
  lost_ = absl::AbortedError("this scheduler has not led yet");
}

Leadership::~Leadership() { Resign(); }

bool IsEtcdAway(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

absl::Status RetryEtcd(const ClockSource& clock, TimeMs patience_ms, const std::function<bool()>& stop,
                       const std::function<absl::Status()>& attempt) {
  TimeMs answered = clock.NowMs();
  TimeMs next_log = answered;
  while (!stop()) {
    const absl::Status status = attempt();
    const TimeMs now = clock.NowMs();
    if (absl::IsAlreadyExists(status)) {
      answered = now;
    } else if (status.ok() || !IsEtcdAway(status)) {
      return status;
    } else if (now - answered >= patience_ms) {
      return absl::Status(status.code(), absl::StrCat("no answer of etcd's for ", patience_ms / 1000,
                                                      " s (--etcd_timeout_s): ", status.message()));
    } else if (now >= next_log) {
      TG_LOG(WARNING) << "waits for etcd, at most " << (patience_ms - (now - answered)) / 1000
                      << " s more (--etcd_timeout_s): " << status.message();
      next_log = now + kLogEveryMs;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kLookEveryMs));
  }
  return absl::CancelledError("stopped");
}

absl::Status Leadership::Campaign(const std::function<bool()>& stop) {
  Resign();
  return RetryEtcd(*clock_, options_.patience_ms, stop, [this] { return Try(); });
}

// ALREADY_EXISTS: another one leads.
absl::Status Leadership::Try() {
  const absl::Status taken = absl::AlreadyExistsError("another scheduler leads");
  const auto leader = etcd_->Get(options_.key);
  if (!leader.ok()) return leader.status();
  if (leader->create_revision != 0) {
    standby_(leader->value);
    return taken;
  }
  const TimeMs asked = clock_->NowMs();
  const auto lease = etcd_->GrantLease(options_.ttl_s);
  if (!lease.ok()) return lease.status();
  const auto revision = etcd_->PutNew(options_.key, options_.address, lease->id);
  if (!revision.ok() || *revision == 0) {
    // Where it is not known whether the key is there now, it goes with the lease.
    etcd_->RevokeLease(lease->id).IgnoreError();
    return revision.ok() ? taken : revision.status();
  }
  {
    std::lock_guard lock(mutex_);
    stopping_ = false;
    until_ = asked + 1000 * options_.ttl_s;
    lost_ = absl::OkStatus();
  }
  revision_ = *revision;
  lease_ = lease->id;
  thread_ = std::thread([this, id = lease->id] { KeepAlive(id); });
  return absl::OkStatus();
}

absl::Status Leadership::LeadsLocked() const {
  if (lost_.ok() && clock_->NowMs() >= until_) {
    lost_ = absl::AbortedError(absl::StrCat("the lease of ", options_.ttl_s, " s (--leader_ttl_s) ran out before etcd had renewed it"));
  }
  return lost_;
}

absl::Status Leadership::Leads() const {
  std::lock_guard lock(mutex_);
  return LeadsLocked();
}

void Leadership::KeepAlive(int64_t lease) {
  const TimeMs every_ms = 1000 * options_.ttl_s / 4;
  TimeMs wait_ms = every_ms;
  bool failing = false;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return stopping_; });
    if (stopping_ || !LeadsLocked().ok()) return;
    lock.unlock();
    const TimeMs asked = clock_->NowMs();
    const auto alive = etcd_->KeepAlive(lease);
    lock.lock();
    if (!LeadsLocked().ok()) return;
    wait_ms = alive.ok() ? every_ms : kRetryMs;
    if (!alive.ok()) {
      if (!std::exchange(failing, true)) TG_LOG(WARNING) << "the lease was not renewed, trying on: " << alive.status().message();
    } else if (*alive) {
      failing = false;
      until_ = asked + 1000 * options_.ttl_s;
    } else {
      lost_ = absl::AbortedError("etcd does not know the lease any more: it has run out, or was revoked");
    }
  }
}

void Leadership::Resign() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (lost_.ok()) lost_ = absl::AbortedError("this scheduler has given the lead up");
  }
  changed_.notify_all();
  thread_.join();
  etcd_->RevokeLease(lease_).IgnoreError();
}

}  // namespace tidegate
