#pragma once
// What the scheduler asks of etcd. An error leaves open whether it was done, unless it is etcd's own refusal;
// it names the endpoint. UNAVAILABLE, DEADLINE_EXCEEDED: not reached, or it has no leader. Thread-safe.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tidegate {

class Etcd {
 public:
  struct Value {
    std::string value;
    int64_t create_revision = 0;  // 0: there is no such key
    int64_t mod_revision = 0;
  };
  struct Lease {
    int64_t id = 0;
    int64_t ttl_s = 0;  // at least what was asked for
  };
  struct Put {
    bool done = false;
    int64_t mod_revision = 0;           // of the key, now; 0: there is none
    int64_t guard_create_revision = 0;  // now
  };

  virtual ~Etcd() = default;
  // Linearizable.
  virtual absl::StatusOr<Value> Get(const std::string& key) = 0;
  // Puts if `guard` has this create revision and `key` this mod revision (0: there is none), both in one transaction.
  virtual absl::StatusOr<Put> PutGuarded(const std::string& key, const std::string& value, int64_t mod_revision,
                                         const std::string& guard, int64_t guard_create_revision) = 0;
  // Puts if there is no such key; it goes with the lease. Its create revision, or 0: there is one.
  virtual absl::StatusOr<int64_t> PutNew(const std::string& key, const std::string& value, int64_t lease) = 0;
  virtual absl::StatusOr<Lease> GrantLease(int64_t ttl_s) = 0;
  // False: there is no such lease (any more).
  virtual absl::StatusOr<bool> KeepAlive(int64_t lease) = 0;
  virtual absl::Status RevokeLease(int64_t lease) = 0;
  // The newest one of all keys.
  virtual absl::StatusOr<int64_t> Revision() = 0;
  // What was superseded before this revision can be read no more, of all keys.
  virtual absl::Status Compact(int64_t revision) = 0;
};

}  // namespace tidegate
