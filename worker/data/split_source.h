#pragma once
// Batches of the rows of a stream, in its order or shuffled within windows. Not thread-safe. Shuffled,
// the stream's last batches are of even size, none a small rest.

#include <cstdint>
#include <memory>

#include "worker/data/batch_source.h"
#include "worker/data/row_decoder.h"
#include "worker/data/row_window.h"
#include "worker/data/rows.h"

namespace tidegate {

class SplitSource final : public BatchSource {
 public:
  // shuffle_window: rows; 0: the stream's order.
  SplitSource(std::unique_ptr<RowStream> stream, std::unique_ptr<RowCollector> collector,
              uint64_t shuffle_window, uint64_t shuffle_seed);

  absl::StatusOr<bool> Next(size_t max_rows, Batch* batch) override;
  void Cancel() override { stream_->Cancel(); }

 private:
  absl::StatusOr<const Row*> NextRow();  // null at the end
  absl::Status FillWindow();
  size_t LinesOfNext(size_t max_lines) const;

  const std::unique_ptr<RowStream> stream_;
  const std::unique_ptr<RowCollector> collector_;
  const uint64_t shuffle_window_;
  const uint64_t shuffle_seed_;
  Row row_;
  RowWindow window_;
  uint64_t windows_ = 0;
  size_t taken_ = 0;
};

}  // namespace tidegate
