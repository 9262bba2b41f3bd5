#include "scheduler/store/etcd_store.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/store/state_codec.h"

namespace tidegate {
namespace {

const char* AdviceFor(absl::string_view message) {
  if (absl::StrContains(message, "too large")) return "; raise etcd's --max-request-bytes";
  if (absl::StrContains(message, "space exceeded")) {
    return "; compact and defragment etcd, disarm its alarm, and give it --auto-compaction-retention";
  }
  return "";
}

}  // namespace

absl::StatusOr<std::string> LeaderKey::Read() {
  auto value = etcd_->Get(key_);
  if (!value.ok()) return value.status();
  mod_revision_ = value->mod_revision;
  if (value->create_revision == 0) return absl::NotFoundError(absl::StrCat("no key ", key_));
  return std::move(value->value);
}

absl::Status LeaderKey::Write(const std::string& value) {
  const absl::Status deposed =
      absl::AbortedError("another scheduler leads the job, or none: this one may not write any more");
  if (lead_.revision == 0) return deposed;
  // Twice: the first may find that an earlier write, whose answer was lost, has been done.
  for (int i = 0; i < 2; ++i) {
    const auto put = etcd_->PutGuarded(key_, value, mod_revision_, lead_.key, lead_.revision);
    if (!put.ok()) return put.status();
    if (put->guard_create_revision != lead_.revision) return deposed;
    mod_revision_ = put->mod_revision;
    if (put->done) return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat("something else writes ", key_));
}

absl::StatusOr<SchedulerState> EtcdStore::Load() {
  const auto bytes = key_.Read();
  if (absl::IsNotFound(bytes.status())) return SchedulerState();
  if (!bytes.ok()) return bytes.status();
  return DecompressState(*bytes, name_);
}

absl::Status EtcdStore::Write(const std::string& state) {
  const std::string bytes = CompressEncoded(state);
  const absl::Status status = key_.Write(bytes);
  if (status.ok() || absl::IsAborted(status)) return status;
  return absl::Status(status.code(), absl::StrCat(name_, " (", bytes.size(), " bytes): ", status.message(),
                                                  AdviceFor(status.message())));
}

}  // namespace tidegate
