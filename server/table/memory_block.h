#pragma once
// Zeroed memory for indices and slabs, cache-line aligned, of 16 KiB and more in huge pages (huge_page_pool.h); of 2 MiB
// and more aligned to them. Movable, freed by its destructor.
// Out of memory stops the process (a server's limit is checked before it grows).

#include <cstddef>

namespace tidegate {

class MemoryBlock {
 public:
  MemoryBlock() = default;
  explicit MemoryBlock(size_t bytes);
  ~MemoryBlock();
  MemoryBlock(MemoryBlock&& other) noexcept;
  MemoryBlock& operator=(MemoryBlock&& other) noexcept;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  enum class Source { kHeap, kPool, kMapped };
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  Source source_ = Source::kHeap;
};

}  // namespace tidegate
