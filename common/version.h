#pragma once

namespace tidegate {

// Of the program; members of one cluster run the same.
inline constexpr char kVersion[] = "0.1.0";

}  // namespace tidegate
