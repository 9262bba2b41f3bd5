#pragma once
// Memory in huge pages. A server with many shards has thousands of blocks of some 100 KiB, each for itself too small for
// a huge page, and looks rows up in all of them at random: in small pages the address of nearly every line would have
// to be looked up first (docs/performance.md). So blocks are cut out of regions of huge pages: the smallest free piece that
// is large enough, neighbours merged again; a region that is all free is given back. Thread-safe.

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace tidegate {

inline constexpr size_t kHugePage = size_t{2} << 20;

// Zeroed, aligned to huge pages; a multiple of them. Out of memory stops the process.
std::byte* MapHugePages(size_t bytes);
void UnmapHugePages(std::byte* data, size_t bytes);

class HugePagePool {
 public:
  static constexpr size_t kAlignment = 64;

  // Of the process; never destroyed.
  static HugePagePool& Shared();

  explicit HugePagePool(size_t region_bytes = 16 * kHugePage) : region_bytes_(region_bytes) {}
  ~HugePagePool();  // REQUIRES: everything was given back
  HugePagePool(const HugePagePool&) = delete;
  HugePagePool& operator=(const HugePagePool&) = delete;

  // Not zeroed. REQUIRES: a multiple of kAlignment, at most a region.
  std::byte* Take(size_t bytes);
  void Give(std::byte* data, size_t bytes);

  size_t regions() const;

 private:
  using Pieces = std::map<std::byte*, size_t>;
  void AddFree(std::byte* data, size_t bytes);
  void RemoveFree(Pieces::iterator piece);

  const size_t region_bytes_;
  mutable std::mutex mutex_;
  std::set<std::byte*> regions_;
  Pieces free_;
  std::set<std::pair<size_t, std::byte*>> free_by_size_;
};

}  // namespace tidegate
