#pragma once
// The scheduler's state in etcd, by the one that leads.
//
// PREFIX/leader is the key of the campaign (scheduler/rpc/leadership.h). Each write is a transaction that compares
// its create revision with the one that this process won it with, so that a deposed leader changes nothing; and
// the written key's own mod revision, so that a write that etcd gets late, after one that came later, is refused.
// Not thread-safe.

#include <cstdint>
#include <string>
#include <utility>

#include "scheduler/store/etcd.h"
#include "scheduler/store/state_store.h"

namespace tidegate {

// One key that only the leader writes.
class LeaderKey {
 public:
  struct Lead {
    std::string key;       // of the campaign
    int64_t revision = 0;  // it was won with; 0: does not lead, Write is refused
  };
  LeaderKey(Etcd* etcd, std::string key, Lead lead) : etcd_(etcd), key_(std::move(key)), lead_(std::move(lead)) {}

  // NOT_FOUND: it was never written.
  absl::StatusOr<std::string> Read();
  // ABORTED: another one leads. REQUIRES: Read has answered.
  absl::Status Write(const std::string& value);

 private:
  Etcd* const etcd_;
  const std::string key_;
  const Lead lead_;
  int64_t mod_revision_ = 0;
};

// PREFIX/state: the state, compressed (state_codec.h). It must fit into one request of etcd's (--max-request-bytes,
// 1.5 MiB by default); Write says so where it does not.
class EtcdStore final : public StateStore {
 public:
  // `name` is for errors.
  EtcdStore(Etcd* etcd, const std::string& prefix, LeaderKey::Lead lead, const std::string& name)
      : key_(etcd, prefix + "/state", std::move(lead)), name_(name + "/state") {}

  absl::StatusOr<SchedulerState> Load() override;
  absl::Status Write(const std::string& state) override;

 private:
  LeaderKey key_;
  const std::string name_;
};

}  // namespace tidegate
