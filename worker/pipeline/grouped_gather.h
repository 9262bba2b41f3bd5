#pragma once
// Fills the keys of a step: distinct, and grouped by the server that has them, so that each server's
// answer is copied into place in one piece. The plain version, and the tests' reference, is
// Model::Gather. Not thread-safe.

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "common/routing_table.h"
#include "worker/client/dedup.h"
#include "worker/model/model.h"

namespace tidegate {

class GroupedGather {
 public:
  using RoutingSource = std::function<std::shared_ptr<const Routing>()>;  // newest; null: none yet

  // `model` outlives it.
  GroupedGather(const Model* model, RoutingSource routing);

  // step->batch -> step->tables[*].keys and counts, step->features[*].position.
  void operator()(Step* step);

 private:
  const Model* const model_;
  const RoutingSource routing_;
  std::vector<std::vector<size_t>> features_of_table_;
  size_t features_ = 0;  // of the batch; known from the first one on
  KeyDedup dedup_;
  std::vector<DedupColumn> columns_;
};

}  // namespace tidegate
