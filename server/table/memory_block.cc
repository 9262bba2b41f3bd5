#include "server/table/memory_block.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/logging.h"
#include "server/table/huge_page_pool.h"

namespace tidegate {
namespace {

constexpr size_t kLine = HugePagePool::kAlignment;
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kPooledMin = kHugePage;  // the sanitizer sees the ends of malloc's blocks only
#else
constexpr size_t kPooledMin = 16 << 10;
#endif

}  // namespace

MemoryBlock::MemoryBlock(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes >= kHugePage) {
    size_ = (bytes + kHugePage - 1) & ~(kHugePage - 1);
    data_ = MapHugePages(size_);
    source_ = Source::kMapped;
    return;
  }
  size_ = (bytes + kLine - 1) & ~(kLine - 1);
  if (bytes >= kPooledMin) {
    source_ = Source::kPool;
    data_ = HugePagePool::Shared().Take(size_);
  } else {
    data_ = static_cast<std::byte*>(std::aligned_alloc(kLine, size_));
    TG_CHECK(data_ != nullptr) << "out of memory: allocating " << size_ << " bytes";
  }
  std::memset(data_, 0, size_);
}

MemoryBlock::~MemoryBlock() {
  if (data_ == nullptr) return;
  switch (source_) {
    case Source::kHeap:
      std::free(data_);
      break;
    case Source::kPool:
      HugePagePool::Shared().Give(data_, size_);
      break;
    case Source::kMapped:
      UnmapHugePages(data_, size_);
      break;
  }
}

MemoryBlock::MemoryBlock(MemoryBlock&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      source_(other.source_) {}

MemoryBlock& MemoryBlock::operator=(MemoryBlock&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(source_, other.source_);
  return *this;
}

}  // namespace tidegate
