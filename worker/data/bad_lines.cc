#include "worker/data/bad_lines.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tidegate {

absl::Status BadLines::Add(std::string example) {
  if (examples_.size() < kExamples) examples_.push_back(std::move(example));
  const uint64_t count = count_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (count <= limit_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(count, count == 1 ? " bad line" : " bad lines",
                                                 ", more than data.max_bad_lines (", limit_,
                                                 "): ", absl::StrJoin(examples_, "; ")));
}

}  // namespace tidegate
