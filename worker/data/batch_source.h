#pragma once
// Where mini-batches come from. Not thread-safe.

#include <cstddef>

#include "absl/status/statusor.h"
#include "worker/data/batch.h"

namespace tidegate {

class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // Replaces *batch (its buffers are reused) by the next rows, at most `max_rows` of them (a line of
  // many rows, as of NCF_NEGATIVES, may pass it). False: no more data, *batch is empty. An error is final. A source that deals in steps (SyncSource)
  // ignores `max_rows` and may return true with zero rows.
  virtual absl::StatusOr<bool> Next(size_t max_rows, Batch* batch) = 0;

  // From any thread: a Next() that waits for a stream's bytes ends, CANCELLED.
  virtual void Cancel() {}
};

}  // namespace tidegate
