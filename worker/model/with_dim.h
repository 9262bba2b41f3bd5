#pragma once
// The common dims of embeddings as constants, so that loops over them unroll.

#include <cstdint>
#include <type_traits>

namespace tidegate {

template <typename Body>
void WithDim(uint32_t dim, Body body) {
  switch (dim) {
    case 1: return body(std::integral_constant<uint32_t, 1>());
    case 8: return body(std::integral_constant<uint32_t, 8>());
    case 10: return body(std::integral_constant<uint32_t, 10>());
    case 16: return body(std::integral_constant<uint32_t, 16>());
    case 32: return body(std::integral_constant<uint32_t, 32>());
    default: return body(dim);
  }
}

}  // namespace tidegate
