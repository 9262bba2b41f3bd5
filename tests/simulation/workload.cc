#include "tests/simulation/workload.h"

#include <algorithm>

#include "common/random.h"

namespace tidegate::simulation {

std::vector<TableSpec> Tables() {
  TableSpec sparse;
  sparse.set_id(kSparse);
  sparse.set_name("emb");
  sparse.set_seed(11);
  PartSpec* sum = sparse.add_parts();
  sum->set_name("sum");
  sum->set_dim(kSumDim);
  sum->mutable_optimizer()->mutable_sum();
  PartSpec* sgd = sparse.add_parts();
  sgd->set_name("sgd");
  sgd->set_dim(kSgdDim);
  sgd->mutable_init()->set_uniform(0.5f);
  sgd->mutable_optimizer()->mutable_sgd()->set_lr(0.5f);
  TableSpec dense;
  dense.set_id(kDense);
  dense.set_name("layer");
  dense.set_kind(TableSpec::DENSE);
  dense.set_seed(12);
  dense.add_shape(kDenseBlocks * kDenseBlock);
  PartSpec* block = dense.add_parts();
  block->set_name("layer");
  block->set_dim(kDenseBlock);
  block->mutable_optimizer()->mutable_sgd()->set_lr(1);
  return {sparse, dense};
}

uint32_t WidthOf(TableId table) { return table == kSparse ? kSparseWidth : kDenseBlock; }

std::vector<Key> KeysOf(TableId table, bool with_own_keys) {
  std::vector<Key> keys;
  for (Key key = 0; key < (table == kSparse ? kKeys : kDenseBlocks); ++key) keys.push_back(key);
  if (table == kSparse && with_own_keys) {
    for (Incarnation own = 1; own <= 2 * kIncarnationsMax; ++own) keys.push_back(kOwnKeys + own);  // of two generations
  }
  return keys;
}

RowRange SliceOf(const Plan& plan, uint64_t step, uint32_t rank, uint32_t world) {
  const uint64_t first = std::min(plan.rows, step * plan.global_batch);
  const uint64_t rows = std::min(plan.rows - first, plan.global_batch);
  return {first + rank * rows / world, first + (rank + 1) * rows / world};
}

Gradients GradientsOf(const Plan& plan, uint32_t epoch, RowRange rows, Incarnation own) {
  Gradients out;
  for (uint64_t row = rows.begin; row < rows.end; ++row) {
    const uint64_t seed = plan.seed * 1000 + epoch;
    for (uint64_t i = 0; i < 3; ++i) {
      const Key key = RandomBits(seed, row * 8 + i) % kKeys;
      auto [it, added] = out.try_emplace({kSparse, key}, std::vector<float>(kSparseWidth));
      it->second[0] += 1;
      it->second[1] += static_cast<float>(1 + row % 5);
      it->second[2] += static_cast<float>(ToUnit(RandomBits(seed, row * 8 + 4 + i)) - 0.5);
    }
  }
  if (rows.size() > 0) {
    for (Key block = 0; block < kDenseBlocks; ++block) {
      std::vector<float>& g = out[{kDense, block}];
      for (uint32_t j = 0; j < kDenseBlock; ++j) g.push_back(static_cast<float>((j + 1) * rows.size()));
    }
    if (own != 0) out[{kSparse, OwnKey(plan, own)}] = {1, 1, 0};
  }
  return out;
}

std::map<TableId, std::vector<Key>> PullOf(const Plan& plan, uint32_t epoch, RowRange rows,
                                           Incarnation own) {
  std::map<TableId, std::vector<Key>> out;
  for (const auto& [at, gradient] : GradientsOf(plan, epoch, rows, own)) out[at.first].push_back(at.second);
  return out;
}

}  // namespace tidegate::simulation
