#pragma once
// The port through which a worker reads and changes parameters. Implementations: the cluster's client
// (worker/client/rpc), a loaded checkpoint (evaluation without a cluster), fakes of tests.
// Thread-safe. Callbacks come from a thread of the implementation, at most once, never while a lock is
// held, and must not block.

#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/types.h"

namespace tidegate {

// `rows` is [keys.size(), row width] row major float32, parts of a row in the order of its spec. The
// caller keeps keys and rows alive until the callback.
struct TablePull {
  TableId table;
  std::span<const Key> keys;  // distinct
  std::span<float> rows;
};
// `gradients` like `rows`: summed over the samples of the step, not divided by the weight.
// `counts`: samples that held each key; empty: 1 each. May be reused once Push has returned.
struct TablePush {
  TableId table;
  std::span<const Key> keys;  // distinct
  std::span<const float> gradients;
  std::span<const uint32_t> counts;
};

class ParameterClient {
 public:
  struct PullResult {
    absl::Status status;
    Clock min_clock = 0;  // the lowest over the servers asked: staleness was clock - 1 - min_clock
  };
  using PullDone = std::function<void(PullResult)>;
  // With train.drop_slowest a push may be applied nowhere, since its clock did not wait for it, and so may all pushes up to
  // `decided` that were not made before.
  struct PushResult {
    absl::Status status;
    bool dropped = false;
    Clock decided = -1;
  };
  using PushDone = std::function<void(PushResult)>;

  virtual ~ParameterClient() = default;

  // Answered once every live worker has ticked `bound` (kNoBound: at once). Retries by itself until it
  // succeeds, the client is stopped (CANCELLED), or no retry can help (the status says what).
  virtual void Pull(Clock clock, Clock bound, std::span<const TablePull> tables, PullDone done) = 0;
  // As Pull with PullMode EVAL: no clock.
  virtual void PullForEvaluation(std::span<const TablePull> tables, PullDone done) = 0;
  // `weight`: sum of the sample weights of the step. At staleness 0 this is also the end of `clock` to
  // every server, also where `tables` is empty. Done when acknowledged by all servers concerned.
  virtual void Push(Clock clock, double weight, std::span<const TablePush> tables, PushDone done) = 0;
  // Says that no more pushes of clocks up to `clock` will come: their tick leaves once all of them are
  // acknowledged. (Staleness 0: a no-op, pushes say it.)
  virtual void EndClock(Clock clock) = 0;
};

}  // namespace tidegate
