// One suite for every optimizer, dtype, width and scope of L2: the table against the plain reference.

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "common/random.h"
#include "google/protobuf/text_format.h"
#include "server/table/gradient_accumulator.h"
#include "server/table/table_group.h"
#include "server/table/value_codec.h"
#include "tests/conformance/reference_table.h"

namespace tidegate {
namespace {

using conformance::ReferenceRow;
using conformance::ReferenceTable;

constexpr int kLog2Shards = 3;

TableSpec ParseSpec(const std::string& text) {
  TableSpec spec;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

// A table and its reference, given the same operations.
class Pair {
 public:
  explicit Pair(const TableSpec& spec)
      : layout_(*RowLayout::Create(spec)), group_(&layout_, kLog2Shards, AllShards()), reference_(spec) {}

  static std::vector<ShardId> AllShards() { return {3, 1, 0, 2, 7, 6, 5, 4}; }

  void Push(const std::vector<Key>& keys, const std::vector<uint32_t>& counts, Random& random, Clock clock,
            float scale, float lr_scale) {
    const size_t width = layout_.width();
    std::vector<float> gradients(keys.size() * width);
    for (float& g : gradients) g = static_cast<float>(random.Unit() - 0.5);
    for (size_t i = 0; i < keys.size(); ++i) {
      const std::vector<float> row(gradients.begin() + i * width, gradients.begin() + (i + 1) * width);
      reference_.Push(keys[i], row, counts[i], scale, lr_scale, clock);
    }
    // One byte off: wire buffers are not aligned.
    std::vector<std::byte> wire(gradients.size() * 4 + 1);
    std::memcpy(wire.data() + 1, gradients.data(), gradients.size() * 4);
    GradientBatch batch;
    batch.keys = PackedSpan<Key>(keys.data(), keys.size());
    batch.values = std::span(wire).subspan(1);
    batch.counts = PackedSpan<uint32_t>(counts.data(), counts.size());
    const ApplyResult result = group_.Apply(batch, {scale, lr_scale, clock});
    CHECK(result.applied + result.unadmitted == keys.size());
  }

  void ExpectEqualPulls(const std::vector<Key>& keys, Clock clock, float lr_scale) {
    const size_t width = layout_.width();
    std::vector<float> rows(keys.size() * width);
    group_.Gather(PackedSpan<Key>(keys.data(), keys.size()), {}, FLOAT32, {1, lr_scale, clock},
                  reinterpret_cast<std::byte*>(rows.data()));
    size_t different = 0;
    for (size_t i = 0; i < keys.size(); ++i) {
      const std::vector<float> expected = reference_.Pull(keys[i], clock, lr_scale);
      different += std::memcmp(expected.data(), rows.data() + i * width, width * 4) != 0;
    }
    CHECK(different == 0);
  }

  // Headers, values and slots of every row, and nothing else there.
  void ExpectEqualRows() {
    CHECK(group_.rows() == reference_.rows().size());
    size_t different = 0;
    for (const auto& [key, expected] : reference_.rows()) {
      const ShardTable& shard = group_.shard(group_.LocalOfKey(key));
      const ShardTable::RowId id = shard.Find(key);
      if (id == ShardTable::kNoRow) FAIL("no row of key " << key);
      const std::byte* row = shard.RowAt(id);
      const RowHeader& header = shard.HeaderAt(id);
      different += header.touches != expected.touches || header.applications != expected.applications ||
                   ClockOf(header.first_clock) != expected.first_clock ||
                   ClockOf(header.last_clock) != expected.last_clock;
      for (size_t p = 0; p < layout_.parts().size(); ++p) {
        const RowLayout::Part& part = layout_.parts()[p];
        std::vector<float> values(part.dim);
        DecodeValues(row + part.value_offset, part.bfloat16 ? BFLOAT16 : FLOAT32, part.dim, values.data());
        different += std::memcmp(values.data(), expected.values.data() + part.first_element, part.dim * 4) != 0;
        const std::vector<float>& slots = expected.slots[p];
        different += slots.size() != part.optimizer.slots() ||
                     (!slots.empty() && std::memcmp(row + part.slot_offset, slots.data(), slots.size() * 4) != 0);
      }
    }
    CHECK(different == 0);
    uint64_t counters = 0;
    for (uint32_t s = 0; s < group_.shards(); ++s) counters += group_.shard(s).unadmitted();
    CHECK(counters == reference_.counters().size());
  }

  void Sweep(Clock clock) {
    for (uint32_t s = 0; s < group_.shards(); ++s) group_.shard(s).Sweep(clock, nullptr);
    reference_.Sweep(clock);
  }
  void Erase(Key key) {
    group_.shard(group_.LocalOfKey(key)).Erase(key);
    reference_.Erase(key);
  }
  TableGroup& group() { return group_; }
  const ReferenceTable& reference() const { return reference_; }

 private:
  RowLayout layout_;
  TableGroup group_;
  ReferenceTable reference_;
};

std::vector<uint32_t> RandomCounts(size_t n, Random& random) {
  std::vector<uint32_t> counts(n);
  for (uint32_t& c : counts) c = 1 + static_cast<uint32_t>(random.Below(3));
  return counts;
}

std::vector<Key> RandomKeys(size_t n, uint64_t distinct, Random& random) {
  std::vector<Key> keys(n);
  for (Key& k : keys) k = Mix64(random.Below(distinct));
  return keys;
}

void RunAgainstReference(const TableSpec& spec, int steps, uint64_t distinct) {
  Pair pair(spec);
  Random random(spec.parts(0).dim());
  for (int step = 0; step < steps; ++step) {
    // Clocks mostly rise, as those of pushes of several workers do.
    const Clock clock = step + static_cast<Clock>(random.Below(4));
    const float lr_scale = step < steps / 2 ? 1.0f : 0.3f;
    const std::vector<Key> keys = RandomKeys(1 + random.Below(90), distinct, random);
    pair.Push(keys, RandomCounts(keys.size(), random), random, clock,
              1.0f / static_cast<float>(1 + random.Below(100)), lr_scale);
    if (step % 7 == 0) pair.ExpectEqualPulls(RandomKeys(50, distinct * 2, random), clock + 2, lr_scale);
  }
  pair.ExpectEqualRows();
}

const char* const kOptimizers[] = {
    "sgd { lr: 0.1 }",
    "momentum { lr: 0.05 momentum: 0.8 }",
    "momentum { lr: 0.05 momentum: 0.8 nesterov: true }",
    "adagrad { lr: 0.1 initial_accumulator: 0.1 }",
    "rowwise_adagrad { lr: 0.1 }",
    "adam { lr: 0.01 }",
    "adam { lr: 0.01 step: GLOBAL beta1: 0.8 }",
    "adamw { lr: 0.01 weight_decay: 0.5 }",
    "adamw { lr: 0.01 step: GLOBAL }",
    "ftrl { alpha: 0.1 beta: 0.5 l1: 0.01 l2: 0.1 }",
    "ftrl {}",
    "moving_average { decay: 0.7 }",
    "sum {}",
};

}  // namespace

TEST_CASE("every optimizer, dtype and width equals the plain reference in bits") {
  const std::string optimizer = GENERATE(from_range(std::begin(kOptimizers), std::end(kOptimizers)));
  const std::string dtype = GENERATE("FLOAT32", "BFLOAT16");
  const int dim = GENERATE(1, 7, 8, 16, 19, 32, 64, 100);
  CAPTURE(optimizer, dtype, dim);
  RunAgainstReference(ParseSpec("id: 2 name: 't' seed: 11 parts { name: 'v' dim: " + std::to_string(dim) +
                                " dtype: " + dtype + " init { normal: 0.1 } optimizer { " + optimizer +
                                " } lr_scale: 0.5 }"),
                      40, 120);
}

TEST_CASE("both scopes of L2 equal the plain reference in bits") {
  const std::string optimizer = GENERATE(from_range(std::begin(kOptimizers), std::begin(kOptimizers) + 9));
  const std::string scope = GENERATE("TOUCHED", "ALL_LAZY");
  const std::string dtype = GENERATE("FLOAT32", "BFLOAT16");
  CAPTURE(optimizer, scope, dtype);
  RunAgainstReference(ParseSpec("id: 2 name: 't' parts { name: 'v' dim: 19 init { uniform: 1 } dtype: " + dtype +
                                " optimizer { " + optimizer + " } l2 { weight: 0.3 scope: " + scope + " } }"),
                      60, 100);
}

TEST_CASE("clipped gradients equal the plain reference in bits") {
  const std::string optimizer = GENERATE(from_range(std::begin(kOptimizers), std::begin(kOptimizers) + 10));
  const std::string clip = GENERATE("value: 0.02", "norm: 0.05", "value: 0.02 norm: 0.03");
  const std::string dtype = GENERATE("FLOAT32", "BFLOAT16");
  const int dim = GENERATE(1, 16, 19);
  CAPTURE(optimizer, clip, dtype, dim);
  RunAgainstReference(ParseSpec("id: 2 name: 't' parts { name: 'v' dim: " + std::to_string(dim) +
                                " init { uniform: 1 } dtype: " + dtype + " optimizer { " + optimizer +
                                " } clip { " + clip + " } l2 { weight: 0.01 } }"),
                      40, 60);
}

TEST_CASE("a frozen part keeps its initial values whatever is pushed") {
  const TableSpec spec = ParseSpec(R"(id: 1 name: 'emb' seed: 5
      parts { name: 'f' dim: 3 init { normal: 1 } frozen: true }
      parts { name: 'v' dim: 2 init { normal: 1 } optimizer { sgd { lr: 1 } } })");
  Pair pair(spec);
  const std::vector<Key> keys = {1, 2, 3};
  const std::vector<float> before = pair.reference().Initial(2);
  Random random(1);
  for (Clock clock = 0; clock < 5; ++clock) pair.Push(keys, {1, 1, 1}, random, clock, 1, 1);
  pair.ExpectEqualRows();
  std::vector<float> after(5);
  const Key key = 2;
  pair.group().Gather(PackedSpan<Key>(&key, 1), {}, FLOAT32, {1, 1, 9}, std::as_writable_bytes(std::span(after)).data());
  CHECK(std::equal(after.begin(), after.begin() + 3, before.begin()));
  CHECK(after[3] != before[3]);
}

TEST_CASE("rows of several parts equal the plain reference in bits") {
  RunAgainstReference(ParseSpec(R"(id: 1 name: 'emb' seed: 5
      parts { name: 'w' dim: 1 optimizer { ftrl { l1: 0.1 } } }
      parts { name: 'v' dim: 16 init { normal: 0.01 } optimizer { adam {} } l2 { weight: 0.01 } }
      parts { name: 'b' dim: 3 dtype: BFLOAT16 init { constant: 0.3 } optimizer { adagrad {} } }
      parts { name: 'f' dim: 2 init { normal: 1 } frozen: true }
      parts { name: 'd' dim: 9 init { normal: 1 } optimizer { sgd {} } l2 { weight: 1 scope: ALL_LAZY } })"),
                      80, 300);
}

TEST_CASE("dense blocks equal the plain reference in bits") {
  const TableSpec spec = ParseSpec(R"(id: 4 name: 'mlp/w' kind: DENSE shape: 100 shape: 90 seed: 3
      parts { name: 'w' dim: 1024 init { normal: 0.05 } optimizer { adam { step: GLOBAL } } })");
  Pair pair(spec);
  Random random(1);
  const std::vector<Key> keys = {8, 0, 1, 2, 3, 4, 5, 6, 7};
  for (Clock clock = 0; clock < 12; ++clock) {
    pair.Push(keys, std::vector<uint32_t>(keys.size(), 1), random, clock, 1.0f / 32, 1);
    pair.ExpectEqualPulls(keys, clock, 1);
  }
  pair.ExpectEqualRows();
}

TEST_CASE("Adam's step counts past the cached corrections") {
  Pair pair(ParseSpec("name: 't' parts { name: 'v' dim: 8 optimizer { adam {} } }"));
  Random random(1);
  for (Clock clock = 0; clock < 1500; ++clock) pair.Push({7}, {1}, random, clock, 1, 1);
  pair.ExpectEqualRows();
}

TEST_CASE("admission by count, by probability, and what unadmitted keys answer") {
  const std::string rule = GENERATE("after: 1", "after: 6", "probability: 0.1", "probability: 1");
  const std::string unadmitted = GENERATE("INITIALIZER", "ZERO");
  CAPTURE(rule, unadmitted);
  RunAgainstReference(ParseSpec("id: 2 name: 't' parts { name: 'v' dim: 8 init { normal: 0.1 } optimizer { sgd {} } }"
                                " admission { " + rule + " } unadmitted: " + unadmitted),
                      60, 600);
}

TEST_CASE("unadmitted keys of a table with FEATURE_OOV are marked by NaN") {
  const TableSpec spec = ParseSpec(R"(name: 't' parts { name: 'v' dim: 4 optimizer { sgd {} } }
      admission { after: 2 } unadmitted: FEATURE_OOV)");
  Pair pair(spec);
  Random random(1);
  pair.Push({1, 2}, {1, 2}, random, 0, 1, 1);
  const std::vector<Key> keys = {1, 2, 3};
  std::vector<float> rows(12);
  pair.group().Gather(PackedSpan<Key>(keys.data(), 3), {}, FLOAT32, {}, reinterpret_cast<std::byte*>(rows.data()));
  CHECK(std::isnan(rows[0]));
  CHECK(std::isfinite(rows[4]));
  CHECK(std::isnan(rows[11]));
  std::vector<uint16_t> half(12);
  pair.group().Gather(PackedSpan<Key>(keys.data(), 3), {}, BFLOAT16, {}, reinterpret_cast<std::byte*>(half.data()));
  CHECK(std::isnan(FromBfloat16(half[0])));
  CHECK(half[4] == ToBfloat16(rows[4]));
}

TEST_CASE("sweeps and erasures equal the plain reference") {
  const std::string rule = GENERATE("max_age_clocks: 6", "min_touches_per_clock: 0.4",
                                    "max_age_clocks: 9 min_touches_per_clock: 0.2");
  const std::string admission = GENERATE("", "admission { after: 3 }");
  CAPTURE(rule, admission);
  Pair pair(ParseSpec("id: 3 name: 't' parts { name: 'v' dim: 5 init { normal: 1 } optimizer { adagrad {} } }"
                      " eviction { " + rule + " } " + admission));
  Random random(4);
  uint64_t most = 0;
  for (Clock clock = 0; clock < 80; ++clock) {
    const std::vector<Key> keys = RandomKeys(60, 100 + 20 * static_cast<uint64_t>(clock), random);
    pair.Push(keys, RandomCounts(keys.size(), random), random, clock, 1, 1);
    most = std::max(most, pair.group().rows());
    if (clock % 10 == 9) {
      pair.Sweep(clock);
      pair.ExpectEqualRows();
    }
    for (int i = 0; i < 3; ++i) pair.Erase(Mix64(random.Below(200)));
  }
  pair.ExpectEqualRows();
  CHECK(pair.group().rows() < most);
}

TEST_CASE("a table grows to 150,000 keys and shrinks again with every row right") {
  Pair pair(ParseSpec("id: 9 name: 't' parts { name: 'v' dim: 4 init { normal: 1 } optimizer { sgd {} } }"));
  Random random(2);
  std::vector<Key> keys(1000);
  for (uint64_t base = 0; base < 150000; base += keys.size()) {
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = base + i;  // sequential: the worst for a bad hash
    pair.Push(keys, std::vector<uint32_t>(keys.size(), 1), random, 1, 1, 1);
  }
  CHECK(pair.group().rows() == 150000);
  pair.ExpectEqualRows();
  for (Key key = 0; key < 150000; key += 1 + key % 3) pair.Erase(key);
  pair.ExpectEqualRows();
  const uint64_t bytes = pair.group().BytesUsed();
  for (Key key = 1000000; key < 1050000; key += 1000) {
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = key + i;
    pair.Push(keys, std::vector<uint32_t>(keys.size(), 1), random, 2, 1, 1);
  }
  pair.ExpectEqualRows();
  CHECK(pair.group().BytesUsed() == bytes);  // freed rows were used again
}

}  // namespace tidegate
