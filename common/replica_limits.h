#pragma once
// What servers hold to and the scheduler speaks of.

#include <cstddef>

namespace tidegate {

// Durability ASYNC: records of a strand's log that a backup has not acknowledged. No push is taken beyond them, so a
// promotion loses no more of each strand.
inline constexpr size_t kAsyncTailRecordsMax = 4096;

}  // namespace tidegate
