#pragma once
// Hashes that are the same in every process, on every machine and in every version: placement,
// checkpoints and exports depend on them. (absl::Hash differs by process and is never used there.)

#include <cstdint>
#include <string_view>

#include "common/types.h"

namespace tidegate {

// The finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection of 64 bits.
constexpr uint64_t Mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// The hash that places a key: its top bits choose the shard, lower bits the slot in the shard's
// index. For one table a bijection of keys: equal hashes mean equal keys.
constexpr uint64_t PlacementHash(TableId table, Key key) {
  return Mix64(key ^ (static_cast<uint64_t>(table + 1) * 0xd6e8feb86659fd93ull));
}

// REQUIRES: shards == 1 << log2_shards.
constexpr ShardId ShardOfHash(uint64_t placement_hash, int log2_shards) {
  return log2_shards == 0 ? 0 : static_cast<ShardId>(placement_hash >> (64 - log2_shards));
}

// XXH3-64 of the bytes, seeded (xxhash 0.8 stable format).
uint64_t StableHash(std::string_view bytes, uint64_t seed = 0);

// The key of a feature's value: XXH3-64 of its text, seeded by XXH3-64 of the salt. `SaltOf` is
// computed once per feature.
inline uint64_t SaltOf(std::string_view salt) { return StableHash(salt); }
inline Key FeatureKey(uint64_t salt_hash, std::string_view value) {
  return StableHash(value, salt_hash);
}
// Keys of the two values that are no text of the data.
Key MissingKey(uint64_t salt_hash);
Key OutOfVocabularyKey(uint64_t salt_hash);

}  // namespace tidegate
