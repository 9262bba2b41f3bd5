#include "server/shard/shard_fill.h"

#include <algorithm>

namespace tidegate {

void ShardFill::Note(TableId table, Key key) {
  if (!listed_ || table != table_) return;
  if (!std::binary_search(keys_.begin() + static_cast<std::ptrdiff_t>(next_), keys_.end(), key)) later_.insert(key);
}

void ShardFill::Take(const ShardTable& rows, size_t bytes, std::string* out) {
  if (!listed_) keys_ = rows.SortedKeys();
  listed_ = true;
  const size_t full = out->size() + bytes;
  while (out->size() < full && (next_ < keys_.size() || !later_.empty())) {
    const bool later = next_ == keys_.size() || (!later_.empty() && *later_.begin() < keys_[next_]);
    cursor_ = later ? *later_.begin() : keys_[next_];
    moved_ = true;
    if (later) {
      later_.erase(later_.begin());
    } else {
      ++next_;
    }
    rows.AppendRows(std::span(&cursor_, 1), out);
  }
  if (next_ < keys_.size() || !later_.empty()) return;
  ++table_;
  listed_ = moved_ = false;
  keys_ = {};
  next_ = 0;
}

}  // namespace tidegate
