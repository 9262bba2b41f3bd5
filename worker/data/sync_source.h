#pragma once
// Batches at staleness 0. The epoch has one global order of rows, a function of (files, seed,
// epoch, global batch) and of nothing else: files in their order, shuffled within windows. Step t
// is rows [t * G, (t + 1) * G) of it, of n = G rows or fewer at the end, and rank r of W takes rows
// [r * n / W, (r + 1) * n / W) of those: so the ranks' slices, put together, are the same batch for
// every W. Every rank scans all rows and decodes only its own. A bad line keeps its place: its
// rank's slice is a row short.
//
// Holds the text of one window (shuffle_window rows, at least G). Not thread-safe.

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/cluster.pb.h"
#include "worker/data/batch_source.h"
#include "worker/data/row_decoder.h"
#include "worker/data/row_window.h"
#include "worker/data/rows.h"

namespace tidegate {

class SyncSource final : public BatchSource {
 public:
  struct Options {
    std::function<absl::StatusOr<std::unique_ptr<RowStream>>()> open;  // all rows, from the first
    std::unique_ptr<RowCollector> collector;
    uint64_t global_batch = 0;    // G
    uint64_t shuffle_window = 0;  // rounded up to a multiple of G; 0: file order
    uint64_t shuffle_seed = 0;    // of (seed, epoch)
  };
  explicit SyncSource(Options options);

  // The steps that Next() gives. Goes on where the last range ended, or opens the files again.
  absl::Status SetRange(const SyncRange& range);

  // This rank's slice of the range's next step, perhaps without rows. False: the range is done, or
  // the data is.
  absl::StatusOr<bool> Next(size_t max_rows, Batch* batch) override;

  // After Next() said false: whether the data ended, and the first step without any.
  bool end_of_data() const { return end_of_data_; }
  uint64_t end_of_data_step() const { return next_step_; }
  // The step that Next() gives next.
  uint64_t next_step() const { return next_step_; }

 private:
  absl::Status SeekTo(uint64_t step);
  absl::Status FillWindow();

  Options options_;
  uint64_t steps_per_window_ = 1;
  std::unique_ptr<RowStream> stream_;
  RowWindow window_;
  bool window_filled_ = false;
  uint64_t window_index_ = 0;  // of window_
  uint64_t next_step_ = 0;
  uint64_t end_step_ = 0;
  uint64_t rank_ = 0;
  uint64_t world_ = 1;
  bool end_of_data_ = false;
};

}  // namespace tidegate
