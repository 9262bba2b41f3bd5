#include "server/table/huge_page_pool.h"

#include <sys/mman.h>

#include <cstdint>
#include <iterator>

#include "common/logging.h"

namespace tidegate {

std::byte* MapHugePages(size_t bytes) {
  void* mapped = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TG_CHECK(mapped != MAP_FAILED) << "out of memory: mapping " << bytes << " bytes";
  const uintptr_t start = reinterpret_cast<uintptr_t>(mapped);
  const uintptr_t aligned = (start + kHugePage - 1) & ~(kHugePage - 1);
  if (aligned > start) munmap(mapped, aligned - start);
  const uintptr_t end = start + bytes + kHugePage;
  if (end > aligned + bytes) munmap(reinterpret_cast<void*>(aligned + bytes), end - aligned - bytes);
  std::byte* data = reinterpret_cast<std::byte*>(aligned);
  madvise(data, bytes, MADV_HUGEPAGE);  // a hint: it fails where the kernel has no huge pages
  return data;
}

void UnmapHugePages(std::byte* data, size_t bytes) { munmap(data, bytes); }

HugePagePool& HugePagePool::Shared() {
  static HugePagePool* const pool = new HugePagePool;
  return *pool;
}

HugePagePool::~HugePagePool() {
  for (const auto& [data, bytes] : free_) {
    TG_CHECK(bytes == region_bytes_) << "a pool ends before its blocks";
    UnmapHugePages(data, bytes);
  }
}

void HugePagePool::AddFree(std::byte* data, size_t bytes) {
  free_.emplace(data, bytes);
  free_by_size_.emplace(bytes, data);
}

void HugePagePool::RemoveFree(Pieces::iterator piece) {
  free_by_size_.erase({piece->second, piece->first});
  free_.erase(piece);
}

std::byte* HugePagePool::Take(size_t bytes) {
  TG_CHECK(bytes > 0 && bytes % kAlignment == 0 && bytes <= region_bytes_) << bytes;
  std::lock_guard lock(mutex_);
  if (free_by_size_.empty() || free_by_size_.rbegin()->first < bytes) {
    std::byte* const region = MapHugePages(region_bytes_);
    regions_.insert(region);
    AddFree(region, region_bytes_);
  }
  const auto [size, data] = *free_by_size_.lower_bound({bytes, nullptr});
  RemoveFree(free_.find(data));
  if (size > bytes) AddFree(data + bytes, size - bytes);
  return data;
}

void HugePagePool::Give(std::byte* data, size_t bytes) {
  std::lock_guard lock(mutex_);
  // Regions may lie side by side, but are given back one by one.
  const auto after = free_.find(data + bytes);
  if (after != free_.end() && !regions_.contains(data + bytes)) {
    bytes += after->second;
    RemoveFree(after);
  }
  const auto behind = free_.lower_bound(data);
  if (behind != free_.begin() && !regions_.contains(data)) {
    const auto before = std::prev(behind);
    if (before->first + before->second == data) {
      data = before->first;
      bytes += before->second;
      RemoveFree(before);
    }
  }
  if (bytes == region_bytes_ && regions_.size() > 1) {  // the last one stays
    regions_.erase(data);
    UnmapHugePages(data, bytes);
    return;
  }
  AddFree(data, bytes);
}

size_t HugePagePool::regions() const {
  std::lock_guard lock(mutex_);
  return regions_.size();
}

}  // namespace tidegate
