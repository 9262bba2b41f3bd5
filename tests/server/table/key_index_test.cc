#include "server/table/key_index.h"

#include <catch2/catch.hpp>
#include <map>
#include <utility>
#include <vector>

#include "common/random.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {

using Hash = uint64_t (*)(Key);

// The index beside a map that says what it must hold.
class Checked {
 public:
  explicit Checked(Hash hash) : hash_(hash) {}

  void Insert(Key key, uint32_t row, uint32_t counter) {
    const size_t slot = index_.Insert(hash_(key), key, row, hash_);
    CHECK(index_.RowAt(slot) == row);
    CHECK(index_.CounterAt(slot) == 0);
    index_.CounterAt(slot) = counter;
    expected_[key] = {row, counter};
  }
  void Erase(Key key) {
    index_.Erase(index_.Find(hash_(key), key), hash_);
    expected_.erase(key);
  }
  bool Has(Key key) const { return expected_.count(key) != 0; }
  bool IsRight(Key key) const {
    const size_t slot = index_.Find(hash_(key), key);
    const auto found = expected_.find(key);
    if (found == expected_.end()) return index_.RowAt(slot) == KeyIndex::kEmpty;
    return index_.KeyAt(slot) == key && index_.RowAt(slot) == found->second.first &&
           index_.CounterAt(slot) == found->second.second;
  }
  // Every key can be found, and nothing else stands there.
  void Check() const {
    CHECK(index_.size() == expected_.size());
    for (const auto& [key, value] : expected_) CHECK(IsRight(key));
    size_t used = 0;
    for (size_t slot = 0; slot < index_.slots(); ++slot) used += index_.RowAt(slot) != KeyIndex::kEmpty;
    CHECK(used == expected_.size());
    CHECK(index_.slots() * 11 / 16 >= expected_.size());
  }
  const KeyIndex& index() const { return index_; }
  const std::map<Key, std::pair<uint32_t, uint32_t>>& expected() const { return expected_; }

 private:
  const Hash hash_;
  KeyIndex index_;
  std::map<Key, std::pair<uint32_t, uint32_t>> expected_;
};

uint64_t LastBucket(Key) { return ~uint64_t{0}; }
uint64_t TwoNeighbours(Key key) { return key % 2 == 0 ? ~uint64_t{0} : 0; }

void RunRandom(Hash hash, uint64_t distinct, int steps) {
  Checked checked(hash);
  Random random(distinct);
  for (int step = 0; step < steps; ++step) {
    const Key key = random.Below(distinct);
    CHECK(checked.IsRight(key));
    if (!checked.Has(key)) {
      checked.Insert(key, static_cast<uint32_t>(random.Below(1000)), static_cast<uint32_t>(random()));
    } else if (random.Below(3) == 0) {
      checked.Erase(key);
    }
  }
  checked.Check();
}

}  // namespace

TEST_CASE("keys that come and go are found with what they hold, others are not") {
  RunRandom([](Key key) { return Mix64(key); }, 40, 5000);
  RunRandom([](Key key) { return Mix64(key); }, 3000, 20000);
}

TEST_CASE("keys of one home, at the end of the index, go around it and come back") {
  RunRandom(LastBucket, 50, 5000);
  RunRandom(TwoNeighbours, 50, 5000);
}

TEST_CASE("key 0 is a key like others, also where slots are empty") {
  Checked checked(LastBucket);
  CHECK(checked.IsRight(0));
  for (Key key = 1; key < 6; ++key) checked.Insert(key, static_cast<uint32_t>(key), 7);
  CHECK(checked.IsRight(0));
  checked.Insert(0, 99, 3);
  checked.Check();
  checked.Erase(2);
  checked.Check();
  checked.Erase(0);
  CHECK(checked.IsRight(0));
  checked.Check();
}

TEST_CASE("growth keeps every key, row and counter; a cleared index is small again") {
  KeyIndex index;
  const size_t smallest = index.BytesUsed();
  const Hash hash = [](Key key) { return Mix64(key); };
  for (Key key = 0; key < 100000; ++key) {
    const size_t slot = index.Insert(hash(key), key, static_cast<uint32_t>(key), hash);
    index.CounterAt(slot) = static_cast<uint32_t>(3 * key);
  }
  size_t right = 0;
  for (Key key = 0; key < 100000; ++key) {
    const size_t slot = index.Find(hash(key), key);
    right += index.RowAt(slot) == key && index.CounterAt(slot) == 3 * key;
  }
  CHECK(right == 100000);
  CHECK(index.BytesUsed() <= 100000 * KeyIndex::kSlotBytes * 32 / 11 + (2u << 20));
  index.Clear();
  CHECK(index.size() == 0);
  CHECK(index.BytesUsed() == smallest);
  CHECK(index.RowAt(index.Find(hash(5), 5)) == KeyIndex::kEmpty);
}

}  // namespace tidegate
