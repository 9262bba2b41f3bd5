#include "common/stable_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tidegate {

uint64_t StableHash(std::string_view bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

// A value that holds a NUL byte cannot come out of a text reader.
Key MissingKey(uint64_t salt_hash) {
  return StableHash(std::string_view("\0missing", 8), salt_hash);
}
Key OutOfVocabularyKey(uint64_t salt_hash) {
  return StableHash(std::string_view("\0oov", 4), salt_hash);
}

}  // namespace tidegate
