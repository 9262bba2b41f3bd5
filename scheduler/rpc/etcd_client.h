#pragma once
// etcd by its gRPC API, v3 (third_party/etcd). One attempt a call, at one endpoint; where that does not answer, the
// next call goes to the next one. Thread-safe.

#include <memory>
#include <string>
#include <vector>

#include "common/types.h"
#include "scheduler/store/etcd.h"

namespace tidegate {

class EtcdClient final : public Etcd {
 public:
  // `call_ms`: how long one call may take; writes of values twice that.
  EtcdClient(const std::vector<std::string>& endpoints, TimeMs call_ms);
  ~EtcdClient() override;

  absl::StatusOr<Value> Get(const std::string& key) override;
  absl::StatusOr<Put> PutGuarded(const std::string& key, const std::string& value, int64_t mod_revision,
                                 const std::string& guard, int64_t guard_create_revision) override;
  absl::StatusOr<int64_t> PutNew(const std::string& key, const std::string& value, int64_t lease) override;
  absl::StatusOr<Lease> GrantLease(int64_t ttl_s) override;
  absl::StatusOr<bool> KeepAlive(int64_t lease) override;
  absl::Status RevokeLease(int64_t lease) override;
  absl::StatusOr<int64_t> Revision() override;
  absl::Status Compact(int64_t revision) override;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
