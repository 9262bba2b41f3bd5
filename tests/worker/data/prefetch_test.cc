#include "worker/data/prefetch.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>

namespace tidegate {
namespace {

// Batches whose only sample id counts up; ends, or fails, after `count`.
class Counting final : public BatchSource {
 public:
  Counting(uint64_t count, absl::Status end) : count_(count), end_(std::move(end)) {}
  absl::StatusOr<bool> Next(size_t max_rows, Batch* batch) override {
    batch->Clear();
    if (made == count_) {
      if (!end_.ok()) return end_;
      return false;
    }
    batch->sample_id.assign(max_rows, made++);
    batch->rows = max_rows;
    return true;
  }
  std::atomic<uint64_t> made{0};

 private:
  const uint64_t count_;
  const absl::Status end_;
};

}  // namespace

TEST_CASE("prefetched batches come in order, with depth 1 as well") {
  for (const size_t depth : {0u, 1u, 2u, 7u}) {
    Counting source(500, absl::OkStatus());
    Prefetcher prefetcher(&source, 3, depth);
    Batch batch;
    for (uint64_t i = 0; i < 500; ++i) {
      REQUIRE(*prefetcher.Next(&batch));
      CHECK(batch.rows == 3);
      CHECK(batch.sample_id[2] == i);
    }
    CHECK_FALSE(*prefetcher.Next(&batch));
    CHECK(batch.rows == 0);
    CHECK_FALSE(*prefetcher.Next(&batch));
  }
}

TEST_CASE("an error comes after the batches before it, and stays") {
  Counting source(5, absl::DataLossError("cut off"));
  Prefetcher prefetcher(&source, 1, 2);
  Batch batch;
  for (int i = 0; i < 5; ++i) REQUIRE(*prefetcher.Next(&batch));
  CHECK(absl::IsDataLoss(prefetcher.Next(&batch).status()));
  CHECK(absl::IsDataLoss(prefetcher.Next(&batch).status()));
}

TEST_CASE("no more than depth batches are read ahead") {
  Counting source(1000000, absl::OkStatus());
  Prefetcher prefetcher(&source, 1, 3);
  Batch batch;
  for (uint64_t taken = 1; taken <= 200; ++taken) {
    REQUIRE(*prefetcher.Next(&batch));
    CHECK(source.made <= taken + 3);
  }
}

// Says when it is used by another thread than the one that made it, after that was told to be over.
class Watched final : public BatchSource {
 public:
  explicit Watched(const std::atomic<bool>* gone) : gone_(gone) {}
  absl::StatusOr<bool> Next(size_t max_rows, Batch* batch) override {
    if (*gone_) used_after = true;
    batch->Clear();
    batch->rows = max_rows;
    ++made;
    return true;
  }
  std::atomic<uint64_t> made{0};
  std::atomic<bool> used_after{false};

 private:
  const std::atomic<bool>* const gone_;
};

TEST_CASE("a prefetcher that is dropped early has read a few batches and leaves its source alone from then on") {
  for (int i = 0; i < 50; ++i) {
    std::atomic<bool> gone{false};
    Watched source(&gone);
    const uint64_t taken = i % 3;
    {
      Prefetcher prefetcher(&source, 1, 2);
      Batch batch;
      for (uint64_t n = 0; n < taken; ++n) REQUIRE(*prefetcher.Next(&batch));
    }
    gone = true;
    const uint64_t made = source.made;
    CHECK(made <= taken + 2);
    for (int n = 0; n < 100; ++n) std::this_thread::yield();
    CHECK(source.made == made);
    CHECK_FALSE(source.used_after);
  }
}

}  // namespace tidegate
