#pragma once
// Shapes and buffers of a model's activations: row major [rows, fields, dim] float32. Buffers grow and
// never shrink, so that a steady stream of batches allocates nothing.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace tidegate {

struct Shape {  // of one sample
  uint32_t fields = 1;
  uint32_t dim = 1;
  size_t size() const { return static_cast<size_t>(fields) * dim; }
  friend bool operator==(const Shape&, const Shape&) = default;
};

class FloatBuffer {
 public:
  static constexpr std::align_val_t kAlignment{64};

  // `count` elements of unspecified content; what was there is lost when it grows.
  float* Resize(size_t count) {
    if (count > capacity_) {
      data_.reset(static_cast<float*>(::operator new(count * sizeof(float), kAlignment)));
      capacity_ = count;
    }
    size_ = count;
    return data_.get();
  }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(float* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<float, Free> data_;
  size_t capacity_ = 0;
  size_t size_ = 0;
};

}  // namespace tidegate
