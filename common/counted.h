#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tidegate {

// "1 server", "2 servers".
inline std::string Counted(uint64_t n, std::string_view noun) {
  return std::to_string(n) + " " + std::string(noun) + (n == 1 ? "" : "s");
}

}  // namespace tidegate
