#pragma once
// Our interfaces speak std::string_view; Debian's Abseil has a string_view of its own. The one place
// where they meet.

#include <string>
#include <string_view>

#include "absl/strings/string_view.h"

namespace tidegate {

inline absl::string_view ToAbsl(std::string_view s) { return absl::string_view(s.data(), s.size()); }
inline std::string_view ToStd(absl::string_view s) { return std::string_view(s.data(), s.size()); }

}  // namespace tidegate
