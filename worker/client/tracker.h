#pragma once
// The client's core: takes pulls, pushes and clock announcements from above, replies, errors and time
// from below, and says what to send. Splits keys by server, sends each message again until it is
// answered, with the same sequence in each attempt, and completes calls. Owns no thread, socket or
// clock; the same inputs give the same effects.
//
// - A push call has one sequence for each message it is cut into by the message limit (the same
//   sequence at every server); a server owes an answer to at most `push_window` sequences, more wait here (PushWindow).
// - Parts of one pull go to a server one after another, so that a parked one is never replaced by its
//   own sibling; the bytes that pulls of a server ask for are bounded, more wait here.
// - Shards that a server refuses are asked for elsewhere once newer routing is here. At staleness 0 a change of
//   primaries makes every push that is not acknowledged begin anew: what is missing of it is cut by the new
//   routing, with new parts, and every primary gets the end of its clock again.
// - With drop_slowest each push also asks the primary of shard 0 whether it counts. One that does not is over with the
//   answer, whatever servers have of it; they drop it by what this worker's tick then says.
// - Errors: UNAVAILABLE, ABORTED, DEADLINE_EXCEEDED and broken connections are retried for ever, with
//   backoff; FAILED_PRECONDITION fences the whole client; others end their call.
//
// Not thread-safe. Every input takes the time; effects gather until TakeEffects.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "common/routing_table.h"
#include "common/types.h"
#include "common/wire/shard_wire.h"
#include "worker/client/clock_announcer.h"
#include "worker/client/key_split.h"
#include "worker/client/parameter_client.h"
#include "worker/client/push_window.h"
#include "worker/client/retry_policy.h"

namespace tidegate {

struct TrackerOptions {
  uint64_t generation = 0;
  Incarnation incarnation = 0;
  bool synchronous = false;  // staleness 0: every push goes to every server and ends its clock
  bool drop_slowest = false;  // staleness 0: pushes may be dropped (train.drop_slowest)
  wire::ValueType wire_type = wire::ValueType::kFloat32;
  size_t message_limit_bytes = 64 << 20;
  size_t pull_bytes_in_flight_max = 8 << 20;  // per server, of answers; one pull is always let through
  size_t pulls_in_flight_max = 8;             // per server
  Sequence push_window = 64;                  // what a server's session remembers
  // Of one attempt. Parked pulls and held pushes wait long in good health: the next attempt replaces
  // them at the server. Doubles with each that is not answered; refusals do not count.
  TimeMs attempt_timeout_ms = 10'000;
  TimeMs clock_timeout_ms = 2'000;
  RetryPolicy::Options retry = {};
};

struct TrackerStats {
  uint64_t rows_pulled = 0;
  uint64_t rows_pushed = 0;
  uint64_t messages = 0;         // sent, all attempts
  uint64_t retries = 0;
  uint64_t refused_shards = 0;
};

class Tracker {
 public:
  using CallId = uint64_t;

  // `body` views memory that `owner` keeps alive. `server` is one of the routing's.
  struct Send {
    Incarnation server = 0;
    uint64_t number = 0;  // of this attempt: the reply names it
    wire::Request body;
    std::shared_ptr<const void> owner;
  };
  // `clock`: a pull's lowest min_clock; Announce: the first clock that the worker may use; a push with drop_slowest: pushes
  // of clocks up to it that were not made before are dropped.
  struct Completed {
    CallId call = 0;
    absl::Status status;
    Clock clock = 0;
    bool dropped = false;  // a push that is applied nowhere
  };
  struct Effects {
    std::vector<Send> sends;
    std::vector<Completed> completed;
    bool want_routing = false;  // newer than what the tracker has: fetch it, at leisure
  };

  explicit Tracker(TrackerOptions options);

  // Older epochs are ignored. Calls wait for the first one.
  void SetRouting(TimeMs now, std::shared_ptr<const Routing> routing);

  // Parameters as in ParameterClient; `rows` is written before the call completes with OK, and must
  // live until it completes.
  CallId Pull(TimeMs now, Clock clock, Clock bound, std::span<const TablePull> tables);
  CallId PullForEvaluation(TimeMs now, std::span<const TablePull> tables);
  CallId Push(TimeMs now, Clock clock, double weight, std::span<const TablePush> tables);
  void EndClock(TimeMs now, Clock clock);
  // Hello to every server, then, where they answered differently, the tick up to the clock before the
  // answer's.
  // A call that is still under way completes ABORTED when the other one begins.
  CallId Announce(TimeMs now);
  // Leaves the minimum. REQUIRES: no push under way.
  CallId Park(TimeMs now);

  // An answer to `number`. Only sends that were not answered or given up are known; others are ignored.
  void OnReply(TimeMs now, uint64_t number, const wire::Response& reply);
  // The connection broke: what is under way at this server is to be sent again.
  void OnDisconnected(TimeMs now, Incarnation server);
  void OnTime(TimeMs now);
  // When OnTime has something to do; max() if nothing waits for time.
  TimeMs NextTime() const;
  // Ends every call with `status`, at once, also later ones.
  void Stop(absl::Status status);

  // OK until Stop or until a server fenced this client.
  const absl::Status& health() const { return health_; }
  Effects TakeEffects();
  const TrackerStats& stats() const { return stats_; }
  size_t calls() const { return calls_.size(); }

 private:
  enum class Kind : uint8_t { kPull, kPush };
  enum class LegState : uint8_t {
    kQueued,    // for its turn: pulls of a server in order, pushes for the window
    kSent,      // `at`: deadline
    kBackoff,   // `at`: send again
    kHomeless,  // `at`: find the servers of its keys again, with the routing of then
  };
  using LegId = uint64_t;
  // One message to one server, through all its attempts.
  struct Leg {
    Kind kind = Kind::kPull;
    CallId call = 0;
    Incarnation server = 0;
    KeyMessage message;
    Sequence sequence = 0;
    Incarnation counted_at = PushWindow::kEverywhere;
    uint32_t part = 0;
    uint32_t parts = 1;
    bool asks = false;
    LegState state = LegState::kQueued;
    TimeMs at = 0;
    uint32_t attempts = 0;
    uint32_t timeouts = 0;  // of them, those that were not answered in time
    absl::InlinedVector<uint64_t, 2> numbers;
  };
  struct Call {
    Kind kind = Kind::kPull;
    Clock clock = 0;
    size_t legs = 0;  // not answered
    // pull
    Clock bound = 0;
    bool eval = false;
    std::vector<std::span<float>> rows;                // of KeyBlock::source
    std::map<Incarnation, std::deque<LegId>> chains;  // by server; the front one is under way
    Clock min_clock = 0;
    // push
    double weight = 0;
    bool counts = false;  // drop_slowest: told so
  };
  struct ServerState {
    std::deque<LegId> waiting;  // pulls
    size_t pull_bytes = 0;      // under way
    size_t pulls = 0;
  };
  // A call that came before the first routing.
  struct Deferred {
    CallId call = 0;
    std::vector<KeySource> pull;
    KeyMessage push;
  };

  CallId BeginClock(TimeMs now, ClockAnnouncer::Kind kind);
  CallId StartPull(TimeMs now, Call call, std::span<const TablePull> tables);
  void RoutePull(TimeMs now, CallId id, std::span<const KeySource> sources, uint32_t attempts);
  void RoutePush(TimeMs now, CallId id, std::span<const KeySource> sources, wire::ValueType from);
  LegId AddPushLeg(CallId id, Incarnation server, KeyMessage message, Sequence sequence);
  void CountEverywhere(Leg* leg);
  void DropUnsent(LegId id, Sequence sequence);
  void AdmitPulls(TimeMs now, Incarnation server);
  void AdmitPushes(TimeMs now);
  void SendLeg(TimeMs now, LegId id);
  void SendAgain(TimeMs now, LegId id);
  wire::Request BodyOf(const Leg& leg) const;
  void RetryAt(TimeMs at, Leg* leg);
  void Strand(LegId id, TimeMs at);
  void SplitAgain(TimeMs now, CallId id);
  void RouteLegs(TimeMs now, bool primaries_moved);
  void SetMembers();
  void Rehome(TimeMs now, LegId id);
  void LeaveServer(LegId id, const Leg& leg);
  void OnClockReply(TimeMs now, uint64_t number, const wire::Response& reply);
  void OnPullReply(TimeMs now, LegId id, const wire::PullResponse& reply);
  void OnPushReply(TimeMs now, LegId id, const wire::PushResponse& reply);
  void OnContributors(TimeMs now, LegId id, const wire::PushResponse& reply);
  void EraseLegsOf(CallId id);
  void OnRefused(TimeMs now, LegId id, const absl::Status& status);
  void Reroute(TimeMs now, LegId id, std::span<const uint32_t> refused_shards, Epoch server_epoch);
  void FinishLeg(TimeMs now, LegId id);
  void EraseLeg(LegId id);
  void CountRows(Kind kind, size_t keys);
  void FailCall(TimeMs now, CallId id, const absl::Status& status);
  void Complete(CallId id, absl::Status status, Clock clock, bool dropped = false);
  void PumpClock(TimeMs now);
  wire::Stamp StampNow() const;
  size_t KeyBytesMax() const;

  const TrackerOptions options_;
  RetryPolicy retry_;
  std::shared_ptr<const Routing> routing_;
  absl::Status health_;
  uint64_t next_call_ = 1;
  LegId next_leg_ = 1;
  uint64_t next_number_ = 1;
  std::map<CallId, Call> calls_;
  std::map<LegId, Leg> legs_;
  std::map<Incarnation, ServerState> servers_;  // primaries
  absl::flat_hash_map<uint64_t, LegId> leg_of_number_;  // never iterated
  std::vector<Deferred> deferred_;
  std::map<Sequence, std::vector<LegId>> unsent_pushes_;  // beyond the window
  PushWindow window_;
  ClockAnnouncer announcer_;
  Clock decided_ = -1;  // drop_slowest: the newest clock of which it is known whose pushes count
  KeySplitter splitter_;
  Effects effects_;
  TrackerStats stats_;
};

}  // namespace tidegate
