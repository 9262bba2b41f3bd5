#include "worker/data/row_window.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/random.h"
#include "worker/data/text_rows.h"

namespace tidegate {
namespace {
constexpr size_t kChunkBytes = kMaxLineBytes;  // every line fits
}  // namespace

const char* RowWindow::Store(std::string_view text) {
  if (chunks_.empty() || used_ + text.size() > kChunkBytes) {
    if (!chunks_.empty()) ++chunk_;
    if (chunk_ == chunks_.size()) {
      chunks_.push_back(std::unique_ptr<char[]>(new char[kChunkBytes]));
    }
    used_ = 0;
  }
  char* to = chunks_[chunk_].get() + used_;
  std::memcpy(to, text.data(), text.size());
  used_ += text.size();
  return to;
}

void RowWindow::Clear() {
  rows_.clear();
  chunk_ = 0;
  used_ = 0;
}

absl::Status RowWindow::Fill(RowStream* stream, uint64_t max_rows) {
  Clear();
  Row row;
  while (rows_.size() < max_rows) {
    absl::StatusOr<bool> more = stream->Next(&row);
    if (!more.ok()) return more.status();
    if (!*more) break;
    if (row.size > 0) row.data = Store(row.text());
    rows_.push_back(row);
  }
  return absl::OkStatus();
}

void RowWindow::Shuffle(uint64_t seed) {
  Random random(seed);
  for (size_t i = rows_.size(); i > 1; --i) std::swap(rows_[i - 1], rows_[random.Below(i)]);
}

}  // namespace tidegate
