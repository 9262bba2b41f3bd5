#pragma once
// The job that simulated workers do: which rows a step reads, which keys they hold, and the gradients,
// all functions of (epoch, row). Sparse table 0 has a part whose values are exact sums of integers, so that
// a checker knows of every push whether it is in, and a part that is trained by SGD; dense table 1 falls
// by a known amount with every update.

#include <cstdint>
#include <map>
#include <vector>

#include "common/types.h"
#include "proto/table.pb.h"
#include "tests/simulation/plan.h"

namespace tidegate::simulation {

inline constexpr TableId kSparse = 0;
inline constexpr TableId kDense = 1;
inline constexpr uint32_t kSumDim = 2;
inline constexpr uint32_t kSgdDim = 1;
inline constexpr uint32_t kSparseWidth = kSumDim + kSgdDim;
inline constexpr uint32_t kDenseBlock = 4;
inline constexpr uint32_t kDenseBlocks = 3;
inline constexpr uint64_t kKeys = 24;
// A row of its own for each worker: how many of its pushes with rows are in.
inline constexpr Key kOwnKeys = 1000;
inline constexpr Incarnation kIncarnationsMax = 48;
inline Key OwnKey(const Plan& plan, Incarnation worker) {
  return kOwnKeys + worker + (plan.generation - 1) * kIncarnationsMax;
}

std::vector<TableSpec> Tables();
uint32_t WidthOf(TableId table);
// Every key that a run may touch.
std::vector<Key> KeysOf(TableId table, bool with_own_keys);

struct RowRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t size() const { return end - begin; }
};
// The slice of a step that a rank does; empty where it has none.
RowRange SliceOf(const Plan& plan, uint64_t step, uint32_t rank, uint32_t world);

using Gradients = std::map<std::pair<TableId, Key>, std::vector<float>>;
// Summed over the rows. `own`: of the worker that pushes, 0 at staleness 0.
Gradients GradientsOf(const Plan& plan, uint32_t epoch, RowRange rows, Incarnation own);
// The keys of them.
std::map<TableId, std::vector<Key>> PullOf(const Plan& plan, uint32_t epoch, RowRange rows,
                                           Incarnation own);

}  // namespace tidegate::simulation
