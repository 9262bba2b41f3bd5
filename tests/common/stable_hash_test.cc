#include "common/stable_hash.h"

#include <catch2/catch.hpp>
#include <set>

#include "common/random.h"

namespace tidegate {

// Checkpoints and exports of earlier versions depend on these figures.
TEST_CASE("stable hashes never change") {
  CHECK(Mix64(0) == 0xe220a8397b1dcdafull);
  CHECK(StableHash("") == 0x2d06800538d394c2ull);  // XXH3's published value of the empty input
  CHECK(FeatureKey(SaltOf("C1"), "68fd1e64") != FeatureKey(SaltOf("C2"), "68fd1e64"));
  CHECK(MissingKey(SaltOf("C1")) != OutOfVocabularyKey(SaltOf("C1")));
}

TEST_CASE("placement spreads sequential keys evenly") {
  std::vector<int> count(64);
  for (Key k = 0; k < 64000; ++k) ++count[ShardOfHash(PlacementHash(3, k), 6)];
  for (int c : count) {
    CHECK(c > 800);
    CHECK(c < 1200);
  }
  CHECK(ShardOfHash(PlacementHash(0, 5), 0) == 0);
}

TEST_CASE("random bits do not depend on order") {
  CHECK(RandomBits(1, 7) == RandomBits(1, 7));
  std::set<uint64_t> seen;
  for (uint64_t s = 0; s < 100; ++s)
    for (uint64_t i = 0; i < 100; ++i) seen.insert(RandomBits(s, i));
  CHECK(seen.size() == 10000);
  Random r(1);
  for (int i = 0; i < 1000; ++i) CHECK(r.Below(7) < 7);
}

}  // namespace tidegate
