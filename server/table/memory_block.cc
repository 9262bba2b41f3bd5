#include "server/table/memory_block.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/logging.h"

namespace tidegate {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

std::byte* MapAligned(size_t bytes) {
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

}  // namespace

MemoryBlock::MemoryBlock(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes >= kHugePage) {
    size_ = (bytes + kHugePage - 1) & ~(kHugePage - 1);
    data_ = MapAligned(size_);
    mapped_ = true;
    return;
  }
  size_ = (bytes + 63) & ~size_t{63};
  data_ = static_cast<std::byte*>(std::aligned_alloc(64, size_));
  TG_CHECK(data_ != nullptr) << "out of memory: allocating " << size_ << " bytes";
  std::memset(data_, 0, size_);
}

MemoryBlock::~MemoryBlock() {
  if (mapped_) {
    munmap(data_, size_);
  } else {
    std::free(data_);
  }
}

MemoryBlock::MemoryBlock(MemoryBlock&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, false)) {}

MemoryBlock& MemoryBlock::operator=(MemoryBlock&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace tidegate
