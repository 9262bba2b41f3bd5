#include "worker/data/split_source.h"

#include <algorithm>
#include <utility>

#include "common/random.h"

namespace tidegate {

SplitSource::SplitSource(std::unique_ptr<RowStream> stream, std::unique_ptr<RowCollector> collector,
                         uint64_t shuffle_window, uint64_t shuffle_seed)
    : stream_(std::move(stream)),
      collector_(std::move(collector)),
      shuffle_window_(shuffle_window),
      shuffle_seed_(shuffle_seed) {}

absl::StatusOr<const Row*> SplitSource::NextRow() {
  if (shuffle_window_ <= 1) {
    absl::StatusOr<bool> more = stream_->Next(&row_);
    if (!more.ok()) return more.status();
    return *more ? &row_ : nullptr;
  }
  if (absl::Status s = FillWindow(); !s.ok()) return s;
  return window_.size() == 0 ? nullptr : &window_[taken_++];
}

// Afterwards the window has rows that are not taken, or the stream has ended and it has none at all.
absl::Status SplitSource::FillWindow() {
  if (taken_ < window_.size()) return absl::OkStatus();
  taken_ = 0;
  if (absl::Status s = window_.Fill(stream_.get(), shuffle_window_); !s.ok()) return s;
  window_.Shuffle(RandomBits(shuffle_seed_, windows_++));
  return absl::OkStatus();
}

// A rest of a few rows would be a step as bold as a full one, on noise: when the lines that are left are
// known (all in the window), they are cut in even batches.
size_t SplitSource::LinesOfNext(size_t max_lines) const {
  const size_t left = window_.size() - taken_;
  const bool last_window = window_.size() < shuffle_window_;
  if (left == 0 || !last_window) return max_lines;
  const size_t batches = (left + max_lines - 1) / max_lines;
  return (left + batches - 1) / batches;
}

absl::StatusOr<bool> SplitSource::Next(size_t max_rows, Batch* batch) {
  const ReadStats::Timer timer(collector_->stats());
  collector_->Prepare(batch);
  const size_t per_line = collector_->rows_per_line();
  size_t lines = std::max<size_t>(1, max_rows / per_line);
  if (shuffle_window_ > 1) {
    if (absl::Status s = FillWindow(); !s.ok()) return s;
    lines = LinesOfNext(lines);
  }
  for (;;) {
    if (absl::Status s = collector_->Continue(lines * per_line, batch); !s.ok()) return s;
    if (batch->rows >= lines * per_line) break;
    absl::StatusOr<const Row*> row = NextRow();
    if (!row.ok()) return row.status();
    if (*row == nullptr) break;
    if (absl::Status s = collector_->Add(**row, *stream_, batch); !s.ok()) return s;
  }
  return batch->rows > 0;
}

}  // namespace tidegate
