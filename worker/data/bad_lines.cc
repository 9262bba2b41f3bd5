#include "worker/data/bad_lines.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tidegate {
namespace {

// `what` without quoted texts, and without numbers that are words.
std::string ReasonOf(const std::string& what) {
  std::string out;
  for (size_t i = 0; i < what.size(); ++i) {
    const bool word = i == 0 || what[i - 1] == ' ';
    if (what[i] == '"' && what.find('"', i + 1) != what.npos) {
      i = what.find('"', i + 1);
      if (what.compare(i, 4, "\"...") == 0) i += 3;  // a text that was cut
      out += "\"...\"";
    } else if (word && what[i] >= '0' && what[i] <= '9') {
      while (i + 1 < what.size() && what[i + 1] >= '0' && what[i + 1] <= '9') ++i;
      out += 'N';
    } else {
      out += what[i];
    }
  }
  return out;
}

}  // namespace

absl::Status BadLines::Add(const std::string& where, const std::string& what) {
  std::string example = absl::StrCat(where, ": ", what);
  std::string reason = ReasonOf(what);
  if (reasons_.size() >= kReasons && reasons_.count(reason) == 0) reason = "other reasons";
  Reason& counted = reasons_[reason];
  if (++counted.count == 1) counted.example = example;
  if (examples_.size() < kExamples) examples_.push_back(std::move(example));
  const uint64_t count = count_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (count <= limit_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(count, count == 1 ? " bad line" : " bad lines",
                                                 ", more than data.max_bad_lines (", limit_,
                                                 "): ", absl::StrJoin(examples_, "; ")));
}

}  // namespace tidegate
