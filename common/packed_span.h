#pragma once
// A read-only view of values packed in bytes that came from outside: little endian, and not
// necessarily aligned, so that elements are loaded by copy. Free of cost on the machines we build for.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace tidegate {

static_assert(std::endian::native == std::endian::little, "wire and files are little endian");

template <typename T>
class PackedSpan {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  PackedSpan() = default;
  // REQUIRES: bytes.size() is a multiple of sizeof(T) (parsers refuse other lengths first).
  explicit PackedSpan(std::span<const std::byte> bytes)
      : data_(bytes.data()), size_(bytes.size() / sizeof(T)) {}
  PackedSpan(const T* data, size_t size)
      : data_(reinterpret_cast<const std::byte*>(data)), size_(size) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T operator[](size_t i) const {
    T value;
    std::memcpy(&value, data_ + i * sizeof(T), sizeof(T));
    return value;
  }
  const std::byte* bytes_at(size_t i) const { return data_ + i * sizeof(T); }
  std::span<const std::byte> bytes() const { return {data_, size_ * sizeof(T)}; }
  PackedSpan subspan(size_t offset, size_t count) const {
    return PackedSpan(std::span(data_ + offset * sizeof(T), count * sizeof(T)));
  }

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tidegate
