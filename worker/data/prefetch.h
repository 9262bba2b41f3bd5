#pragma once
// Reads ahead: runs a BatchSource on a thread of its own, behind a bounded queue. Next() is for one
// thread. The source is not ours and must not be touched until Next() has returned false or an
// error, or the Prefetcher is gone.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/batch_source.h"

namespace tidegate {

class Prefetcher {
 public:
  // Asks `source` for batches of `max_rows`, at most `depth` (>= 1) of them ahead.
  // Once *stop (may be null), Next() waits no longer: CANCELLED.
  Prefetcher(BatchSource* source, size_t max_rows, size_t depth, const std::atomic<bool>* stop = nullptr);
  ~Prefetcher();  // stops reading after the batch in hand
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The source's next batch, swapped into *batch (whose buffers are used again). False at its end;
  // an error of the source comes after the batches before it. Both are final.
  absl::StatusOr<bool> Next(Batch* batch);

 private:
  void Run();

  BatchSource* const source_;
  const size_t max_rows_;
  const std::atomic<bool>* const stopped_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Batch> ring_;  // slots [taken_, read_) are full
  uint64_t read_ = 0;
  uint64_t taken_ = 0;
  bool stop_ = false;
  bool done_ = false;    // the source ended
  absl::Status status_;  // of its end
  std::thread thread_;
};

}  // namespace tidegate
