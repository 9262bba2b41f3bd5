#pragma once
// Some consecutive rows of a stream, held with their text so that they can be taken in any order.
// Keeps its memory between fills. Not thread-safe.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "worker/data/rows.h"

namespace tidegate {

class RowWindow {
 public:
  // Replaces the rows by the stream's next `max_rows`; fewer at its end.
  absl::Status Fill(RowStream* stream, uint64_t max_rows);
  // Uniform permutation, a function of (seed, size()).
  void Shuffle(uint64_t seed);
  void Clear();

  size_t size() const { return rows_.size(); }
  // Meant to be called for rising i: fetches the text of a row further on into the cache.
  const Row& operator[](size_t i) const {
    if (i + kAhead < rows_.size()) Prefetch(rows_[i + kAhead]);
    return rows_[i];
  }

 private:
  static constexpr size_t kAhead = 8;
  static void Prefetch(const Row& row) {
    for (uint32_t at = 0; at < row.size && at < 320; at += 64) __builtin_prefetch(row.data + at);
  }
  const char* Store(std::string_view text);

  std::vector<Row> rows_;
  std::vector<std::unique_ptr<char[]>> chunks_;
  size_t chunk_ = 0;  // in use
  size_t used_ = 0;   // of it
};

}  // namespace tidegate
