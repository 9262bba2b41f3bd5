#include "worker/pipeline/grouped_gather.h"

#include <numeric>
#include <utility>

#include "worker/model/table_specs.h"

namespace tidegate {

GroupedGather::GroupedGather(const Model* model, RoutingSource routing)
    : model_(model), routing_(std::move(routing)), features_of_table_(model->tables().size()) {}

void GroupedGather::operator()(Step* step) {
  const std::shared_ptr<const Routing> routing = routing_();
  step->tables.resize(features_of_table_.size());
  step->features.resize(step->batch.features.size());
  for (; features_ < step->batch.features.size(); ++features_) {
    features_of_table_[model_->TableOfFeature(features_)].push_back(features_);
  }
  for (TableId t = 0; t < features_of_table_.size(); ++t) {
    TableStep& table = step->tables[t];
    if (model_->tables()[t].kind() == TableSpec::DENSE) {
      table.keys.resize(DenseBlocks(model_->tables()[t]));
      std::iota(table.keys.begin(), table.keys.end(), Key{0});
      continue;
    }
    columns_.clear();
    for (size_t f : features_of_table_[t]) {
      const FeatureColumn& column = step->batch.features[f];
      FeatureStep& feature = step->features[f];
      columns_.push_back({column.keys, column.offsets, &feature.position, model_->OovKeyOfFeature(f), &feature.oov_position});
    }
    dedup_.Run(t, columns_, routing.get(), &table.keys, &table.counts);
  }
}

}  // namespace tidegate
