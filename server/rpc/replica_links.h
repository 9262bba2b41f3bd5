#pragma once
// A primary's streams to the processes that follow it: to each an Outbox, a stream for the log and one for keep-alives, on
// connections of their own, opened again with backoff when one of them breaks. Nothing here waits: a strand hands a
// record over and goes on; a follower that does not answer holds up only what has to be acknowledged by it. Thread-safe.
//
// Acknowledgements of the log are read by an executor's thread, which answers the pushes that waited for them without
// a wake-up. One thread of its own reads grants and keeps time; it starts with the first follower.

#include <grpcpp/completion_queue.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/routing_table.h"
#include "common/types.h"
#include "server/shard/shard_messages.h"

namespace tidegate {

class ReplicaLinks {
 public:
  struct Options {
    uint64_t generation = 0;
    Incarnation self = 0;
    TimeMs grant_ms = 500;
    TimeMs log_silent_ms = 5000;         // records that are not acknowledged, no answer of the log's stream: opened again
    int message_limit_bytes = 0;         // of one message
    const ClockSource* clock = nullptr;  // outlives this
    // For the log's streams, of threads that do what ProceedUntilShutdown does; none: the own thread reads them too.
    std::vector<grpc::CompletionQueue*> queues;
  };
  // From any thread, no lock held; must not block.
  struct Callbacks {
    // `by_executor`: from a thread of the queues that options named.
    std::function<void(Incarnation follower, uint32_t lane, uint64_t index, bool by_executor)> acknowledged;
    std::function<void(Incarnation follower, TimeMs until)> granted;
    std::function<void(Epoch)> newer_epoch;
    std::function<void()> unreachable_changed;
    std::function<void(TimeMs now)> tick;  // from the thread, every few milliseconds
  };
  struct Follower {
    Routing::Server server;
    uint64_t lanes = 0;  // strands (a bit each) whose log it follows
  };
  struct Statistics {
    uint64_t followers = 0;
    uint64_t unacknowledged_records = 0;
    uint64_t unacknowledged_bytes = 0;
    uint64_t streams = 0;  // opened, failed ones included
  };

  ReplicaLinks(const Options& options, Callbacks callbacks);
  ~ReplicaLinks();  // as Stop

  // After the strands have it: what is sent from here on is stamped with `epoch`, and an answer to it may speak of
  // shards that are not led here any more.
  void SetRouting(Epoch epoch, const std::vector<Follower>& followers);
  // From a lane's strand, in order. A follower that no table has named yet is kept for.
  void Append(uint32_t lane, OutRecord record);
  // Their streams broke and could not be opened again, or they did not answer for three grants.
  std::vector<Incarnation> Unreachable() const;
  Statistics Collect() const;
  // Not beside SetRouting, and while the queues are served.
  void Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
