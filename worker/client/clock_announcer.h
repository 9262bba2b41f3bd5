#pragma once
// A worker's clock announcements to every server: Hello, ticks, Park, each with a rising order number,
// sent again until acknowledged; a newer one supersedes an older. A part of the tracker; a core without
// I/O; not thread-safe.
//
// A tick of clock c says that all of this worker's pushes up to c, to all shards, are acknowledged. At
// staleness 0 pushes end their clock themselves, EndClock is not called, and the one tick is that after
// Hello: without it a server that answered less than another would wait for clocks that no push ends.
//
// Where primaries have changed, every server hears the newest state again: one that got shards waits for that of
// each worker. A worker that never said anything says Park then: it is known, and not live.
//
// With train.drop_slowest ticks also carry what this worker was told of the newest clocks: whose pushes count. Its own, where
// they do not count, are as good as acknowledged.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/types.h"
#include "common/wire/shard_wire.h"
#include "worker/client/retry_policy.h"

namespace tidegate {

class ClockAnnouncer {
 public:
  using Kind = wire::ClockRequest::Kind;
  struct Options {
    TimeMs timeout_ms = 2'000;
  };
  struct Announcement {
    Incarnation server = 0;
    uint64_t number = 0;
    uint64_t order = 0;
    Kind kind = Kind::kHello;
    Clock clock = 0;
    std::vector<wire::ClosedClock> closed;
  };
  // The end of an Announce or Park that every server has acknowledged.
  struct Outcome {
    uint64_t call = 0;
    Clock clock = 0;  // Announce: the first clock to use
  };

  explicit ClockAnnouncer(Options options) : options_(options) {}

  // A newer `primary_epoch` makes every server hear the newest state again. The outcome of a Hello or Park that
  // waited only for servers that are gone.
  std::optional<Outcome> SetServers(std::span<const Incarnation> servers, Epoch primary_epoch);

  // Pushes of a clock that are not acknowledged. One that failed for good never is.
  void PushBegins(Clock clock) { ++unacknowledged_[clock]; }
  void PushAcknowledged(Clock clock);
  // The pushes of `clock` do not count, and it is ended.
  void PushDropped(Clock clock);
  // A tick of its own tells every server.
  void Close(Clock clock, std::vector<Incarnation> contributors);
  // No more pushes up to `clock` will begin.
  void EndClock(Clock clock);
  // The one rule of a tick.
  bool MayTick(Clock clock) const {
    return unacknowledged_.empty() || unacknowledged_.begin()->first > clock;
  }

  // Begins Hello or Park; returns the call that it cuts short, or 0.
  uint64_t Begin(Kind kind, uint64_t call);
  // What to send now; `next_number` is counted up.
  std::vector<Announcement> Pump(TimeMs now, uint64_t* next_number);
  // True if `number` is one of the announcer's, under way.
  bool Owns(uint64_t number) const;
  std::optional<Outcome> OnAcknowledged(uint64_t number, Clock min_clock);
  // Refused for a reason that passes: sent again after the policy's delay, soon.
  void OnRefused(TimeMs now, uint64_t number, RetryPolicy* retry);
  void OnDisconnected(TimeMs now, Incarnation server, RetryPolicy* retry);
  // Gives up attempts that took too long. Returns how many.
  size_t OnTime(TimeMs now, RetryPolicy* retry);
  TimeMs NextTime() const;
  uint64_t call() const { return call_; }

 private:
  struct Lane {
    uint64_t number = 0;   // under way; 0: none
    uint64_t sent_order = 0;
    uint64_t done = 0;     // acknowledged up to this order + 1
    uint32_t attempts = 0;
    TimeMs at = 0;         // deadline, or earliest next attempt
    Clock answer = 0;
  };
  bool Current(const Lane& lane) const { return lane.done > order_; }
  void Begin(Kind kind);
  void AnnounceAgain();
  void Supersede();
  Clock TickReady() const;
  void Forget(Clock clock);
  std::optional<Outcome> CheckAll();
  void Fail(Lane* lane, TimeMs again_at);

  const Options options_;
  std::map<Incarnation, Lane> lanes_;
  Epoch primary_epoch_ = 0;
  std::map<Clock, size_t> unacknowledged_;
  std::map<Clock, std::vector<Incarnation>> closed_;  // that some server may not have applied yet
  bool began_ = false;
  uint64_t order_ = 0;  // of the current announcement
  Kind kind_ = Kind::kHello;
  Clock clock_ = 0;     // of the current tick
  bool live_ = false;   // Hello acknowledged everywhere, no Park since
  Clock ended_ = -1;
  uint64_t call_ = 0;   // of Hello or Park under way
};

}  // namespace tidegate
