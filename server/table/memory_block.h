#pragma once
// Zeroed memory for indices and slabs. Blocks of 2 MiB and more are aligned to huge pages and ask for
// them; smaller ones are cache-line aligned. Movable, freed by its destructor.
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
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  bool mapped_ = false;
};

}  // namespace tidegate
