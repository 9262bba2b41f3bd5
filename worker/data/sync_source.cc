#include "worker/data/sync_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/random.h"

namespace tidegate {

SyncSource::SyncSource(Options options) : options_(std::move(options)) {
  const uint64_t g = std::max<uint64_t>(1, options_.global_batch);
  options_.global_batch = g;
  steps_per_window_ = std::max<uint64_t>(1, (options_.shuffle_window + g - 1) / g);
}

absl::Status SyncSource::SetRange(const SyncRange& range) {
  if (range.world() == 0 || range.rank() >= range.world() ||
      range.first_step() > range.end_step()) {
    return absl::InvalidArgumentError(absl::StrCat("sync range: rank ", range.rank(), " of ",
                                                   range.world(), ", steps [", range.first_step(),
                                                   ", ", range.end_step(), ")"));
  }
  rank_ = range.rank();
  world_ = range.world();
  end_step_ = range.end_step();
  end_of_data_ = false;
  if (stream_ != nullptr && next_step_ == range.first_step()) return absl::OkStatus();
  return SeekTo(range.first_step());
}

absl::Status SyncSource::SeekTo(uint64_t step) {
  const uint64_t window = step / steps_per_window_;
  if (stream_ == nullptr || !window_filled_ || window != window_index_) {
    uint64_t next_window = window_filled_ ? window_index_ + 1 : window_index_;
    if (stream_ == nullptr || next_window > window) {
      absl::StatusOr<std::unique_ptr<RowStream>> stream = options_.open();
      if (!stream.ok()) return stream.status();
      stream_ = *std::move(stream);
      next_window = 0;
    }
    const uint64_t skip = (window - next_window) * steps_per_window_ * options_.global_batch;
    window_.Clear();
    window_filled_ = false;
    if (absl::StatusOr<uint64_t> n = stream_->Skip(skip); !n.ok()) {
      stream_.reset();
      return n.status();
    }
    window_index_ = window;
  }
  next_step_ = step;
  return absl::OkStatus();
}

absl::Status SyncSource::FillWindow() {
  const absl::Status s = window_.Fill(stream_.get(), steps_per_window_ * options_.global_batch);
  if (!s.ok()) {
    stream_.reset();
    window_filled_ = false;
    return s;
  }
  if (options_.shuffle_window > 1)
    window_.Shuffle(RandomBits(options_.shuffle_seed, window_index_));
  window_filled_ = true;
  return absl::OkStatus();
}

absl::StatusOr<bool> SyncSource::Next(size_t, Batch* batch) {
  const ReadStats::Timer timer(options_.collector->stats());
  options_.collector->Prepare(batch);
  if (stream_ == nullptr) return absl::FailedPreconditionError("sync source: no range is set");
  if (next_step_ >= end_step_) return false;
  if (next_step_ / steps_per_window_ != window_index_) {
    ++window_index_;
    window_filled_ = false;
  }
  if (!window_filled_) {
    if (absl::Status s = FillWindow(); !s.ok()) return s;
  }
  const uint64_t first = next_step_ % steps_per_window_ * options_.global_batch;
  if (first >= window_.size()) {
    if (next_step_ == 0) return absl::InvalidArgumentError("the training data has no rows");
    end_of_data_ = true;
    return false;
  }
  const uint64_t n = std::min(options_.global_batch, window_.size() - first);
  for (uint64_t i = first + rank_ * n / world_; i < first + (rank_ + 1) * n / world_; ++i) {
    if (absl::Status s = options_.collector->Add(window_[i], *stream_, batch); !s.ok()) return s;
  }
  ++next_step_;
  return true;
}

}  // namespace tidegate
