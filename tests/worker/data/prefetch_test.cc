#include "worker/data/prefetch.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>

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
    CHECK(prefetcher.waited_seconds() >= 0);
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

TEST_CASE("a prefetcher that is dropped early stops its thread") {
  for (int i = 0; i < 50; ++i) {
    Counting source(1000000, absl::OkStatus());
    Prefetcher prefetcher(&source, 1, 2);
    Batch batch;
    if (i % 2 == 0) REQUIRE(*prefetcher.Next(&batch));
  }
}

}  // namespace tidegate
