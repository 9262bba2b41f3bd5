#include "worker/data/split_source.h"

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
  if (taken_ == window_.size()) {
    taken_ = 0;
    if (absl::Status s = window_.Fill(stream_.get(), shuffle_window_); !s.ok()) return s;
    window_.Shuffle(RandomBits(shuffle_seed_, windows_++));
    if (window_.size() == 0) return nullptr;
  }
  return &window_[taken_++];
}

absl::StatusOr<bool> SplitSource::Next(size_t max_rows, Batch* batch) {
  collector_->Prepare(batch);
  while (batch->rows < max_rows) {
    absl::StatusOr<const Row*> row = NextRow();
    if (!row.ok()) return row.status();
    if (*row == nullptr) break;
    if (absl::Status s = collector_->Add(**row, *stream_, batch); !s.ok()) return s;
  }
  return batch->rows > 0;
}

}  // namespace tidegate
