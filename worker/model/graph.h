#pragma once
// The block graph of a config with names resolved, in an order in which every block comes after what
// it reads. Plain data.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/job.pb.h"

namespace tidegate {

// What is looked up by one "table.part" or "feature.part": a value [rows, features, dim]; of a sequence
// [values of its only feature, dim].
struct LookupPlan {
  TableId table;
  uint32_t offset;               // of the part in the table's row
  uint32_t dim;
  std::vector<size_t> features;  // indices into Batch::features, in the config's order
  bool trainable;                // not frozen
  bool sequence = false;
};

// A value of the graph: a lookup, a numeric column or a block's output.
struct NodePlan {
  enum class Kind { kLookup, kNumeric, kBlock };
  Kind kind;
  std::string name;
  size_t index = 0;                 // into lookups, Batch::numeric, or blocks
  std::vector<size_t> inputs = {};  // kBlock: nodes, in the order of the config
};

struct TaskPlan {
  size_t node;   // the logit, or the probability
  size_t label;  // index into Batch::labels
  float weight;
  TaskConfig::Loss loss;
  bool probability;
  // SOFTMAX
  size_t query = 0, item = 0;  // nodes
  size_t item_feature = 0;     // index into Batch::features
  float temperature = 1;
  bool cosine = false;
};

struct GraphPlan {
  std::vector<LookupPlan> lookups;
  std::vector<BlockConfig> blocks;
  std::vector<NodePlan> nodes;
  std::vector<TaskPlan> tasks;
};

// INVALID_ARGUMENT with a line per problem: missing inputs (with the nearest name), cycles, names that
// are there twice, blocks that no task needs.
absl::StatusOr<GraphPlan> PlanGraph(const JobConfig& config);

// Names of features that no block of the plan reads, in the config's order.
std::vector<std::string> UnreadFeatures(const JobConfig& config, const GraphPlan& plan);

}  // namespace tidegate
