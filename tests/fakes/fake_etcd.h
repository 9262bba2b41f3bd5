#pragma once
// etcd in memory. Leases end when a test says so. Thread-safe.

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "scheduler/store/etcd.h"

namespace tidegate {

class FakeEtcd final : public Etcd {
 public:
  enum class Fault {
    NONE,
    AWAY,       // nothing is done
    NO_ANSWER,  // writes are done, and nobody hears of it
  };
  struct Key {
    std::string value;
    int64_t create_revision = 0, mod_revision = 0, lease = 0;
  };

  void SetFault(Fault fault) {
    std::lock_guard lock(mutex_);
    fault_ = fault;
  }
  // As when a lease has run out.
  void EndLeases() {
    std::lock_guard lock(mutex_);
    while (!leases_.empty()) End(leases_.begin()->first);
  }
  std::map<std::string, Key> keys() {
    std::lock_guard lock(mutex_);
    return keys_;
  }
  void Remove(const std::string& key) {
    std::lock_guard lock(mutex_);
    keys_.erase(key);
  }
  size_t keep_alives() {
    std::lock_guard lock(mutex_);
    return keep_alives_;
  }

  absl::StatusOr<Value> Get(const std::string& key) override {
    return Do<Value>([&] {
      const Key found = Find(key);
      return Value{found.value, found.create_revision, found.mod_revision};
    });
  }
  absl::StatusOr<Put> PutGuarded(const std::string& key, const std::string& value, int64_t mod_revision,
                                 const std::string& guard, int64_t guard_create_revision) override {
    return Do<Put>([&] {
      const int64_t leads = Find(guard).create_revision;
      if (leads != guard_create_revision || Find(key).mod_revision != mod_revision) {
        return Put{false, Find(key).mod_revision, leads};
      }
      return Put{true, Write(key, value, 0), leads};
    });
  }
  absl::StatusOr<int64_t> PutNew(const std::string& key, const std::string& value, int64_t lease) override {
    return Do<int64_t>([&] { return Find(key).create_revision != 0 ? 0 : Write(key, value, lease); });
  }
  absl::StatusOr<Lease> GrantLease(int64_t ttl_s) override {
    return Do<Lease>([&] {
      leases_[++last_lease_] = ttl_s;
      return Lease{last_lease_, ttl_s};
    });
  }
  absl::StatusOr<bool> KeepAlive(int64_t lease) override {
    return Do<bool>([&] {
      ++keep_alives_;
      return leases_.contains(lease);
    });
  }
  absl::Status RevokeLease(int64_t lease) override {
    return Do<bool>([&] {
             End(lease);
             return true;
           }).status();
  }
  absl::StatusOr<int64_t> Revision() override {
    return Do<int64_t>([&] { return revision_; });
  }
  absl::Status Compact(int64_t revision) override {
    return Do<bool>([&] {
             compactions.push_back(revision);
             return true;
           }).status();
  }
  std::vector<int64_t> compactions;

 private:
  template <typename T, typename F>
  absl::StatusOr<T> Do(F act) {
    std::lock_guard lock(mutex_);
    if (fault_ == Fault::AWAY) return absl::UnavailableError("etcd at fake: away");
    T out = act();
    if (fault_ == Fault::NO_ANSWER) return absl::DeadlineExceededError("etcd at fake: no answer");
    return out;
  }
  Key Find(const std::string& key) const {
    const auto found = keys_.find(key);
    return found == keys_.end() ? Key() : found->second;
  }
  int64_t Write(const std::string& key, const std::string& value, int64_t lease) {
    ++revision_;
    Key& written = keys_[key];
    if (written.create_revision == 0) written.create_revision = revision_;
    written.value = value;
    written.mod_revision = revision_;
    written.lease = lease;
    return revision_;
  }
  void End(int64_t lease) {
    leases_.erase(lease);
    std::erase_if(keys_, [&](const auto& entry) { return lease != 0 && entry.second.lease == lease; });
  }

  std::mutex mutex_;
  Fault fault_ = Fault::NONE;
  std::map<std::string, Key> keys_;
  std::map<int64_t, int64_t> leases_;
  int64_t revision_ = 0, last_lease_ = 0;
  size_t keep_alives_ = 0;
};

}  // namespace tidegate
