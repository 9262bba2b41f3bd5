#include "worker/model/table_specs.h"

#include <algorithm>

#include "common/stable_hash.h"

namespace tidegate {
namespace {

void SetOptimizer(const PartConfig& from, Optimizer* to) {
  switch (from.optimizer_case()) {
    case PartConfig::kSgd: *to->mutable_sgd() = from.sgd(); break;
    case PartConfig::kMomentum: *to->mutable_momentum() = from.momentum(); break;
    case PartConfig::kAdagrad: *to->mutable_adagrad() = from.adagrad(); break;
    case PartConfig::kRowwiseAdagrad: *to->mutable_rowwise_adagrad() = from.rowwise_adagrad(); break;
    case PartConfig::kAdam: *to->mutable_adam() = from.adam(); break;
    case PartConfig::kAdamw: *to->mutable_adamw() = from.adamw(); break;
    case PartConfig::kFtrl: *to->mutable_ftrl() = from.ftrl(); break;
    case PartConfig::OPTIMIZER_NOT_SET: to->mutable_sgd(); break;  // frozen
  }
}

void SetOptimizer(const DenseConfig& from, Optimizer* to) {
  switch (from.optimizer_case()) {
    case DenseConfig::kSgd: *to->mutable_sgd() = from.sgd(); break;
    case DenseConfig::kMomentum: *to->mutable_momentum() = from.momentum(); break;
    case DenseConfig::kAdagrad: *to->mutable_adagrad() = from.adagrad(); break;
    case DenseConfig::kAdamw: *to->mutable_adamw() = from.adamw(); break;
    case DenseConfig::kAdam:
    case DenseConfig::OPTIMIZER_NOT_SET: *to->mutable_adam() = from.adam(); break;
  }
}

uint64_t TableSeed(const JobConfig& config, const std::string& name) {
  return StableHash(name, config.seed());
}

}  // namespace

TableSpec SparseTableSpec(const JobConfig& config, const TableConfig& table, TableId id) {
  TableSpec spec;
  spec.set_id(id);
  spec.set_name(table.name());
  spec.set_kind(TableSpec::SPARSE);
  for (const PartConfig& p : table.part()) {
    PartSpec* part = spec.add_parts();
    part->set_name(p.name());
    part->set_dim(p.dim());
    part->set_dtype(p.dtype());
    *part->mutable_init() = p.init();
    SetOptimizer(p, part->mutable_optimizer());
    part->set_lr_scale(p.lr_scale());
    if (p.has_l2()) *part->mutable_l2() = p.l2();
    if (p.has_clip()) *part->mutable_clip() = p.clip();
    part->set_frozen(p.frozen());
  }
  if (table.has_admit_after()) spec.mutable_admission()->set_after(table.admit_after());
  if (table.has_admit_probability()) {
    spec.mutable_admission()->set_probability(table.admit_probability());
  }
  if (table.has_evict()) *spec.mutable_eviction() = table.evict();
  spec.set_unadmitted(table.unadmitted());
  spec.set_seed(TableSeed(config, table.name()));
  return spec;
}

TableSpec DenseTableSpec(const JobConfig& config, const DenseParameter& parameter,
                         const std::string& name, TableId id) {
  TableSpec spec;
  spec.set_id(id);
  spec.set_name(name);
  spec.set_kind(TableSpec::DENSE);
  uint64_t elements = 1;
  for (uint64_t s : parameter.shape) {
    spec.add_shape(s);
    elements *= s;
  }
  PartSpec* part = spec.add_parts();
  part->set_name("value");
  part->set_dim(static_cast<uint32_t>(std::min<uint64_t>(config.dense().block(), elements)));
  *part->mutable_init() = parameter.init;
  if (parameter.update == DenseParameter::Update::kMovingAverage) {
    part->mutable_optimizer()->mutable_moving_average();
  } else {
    SetOptimizer(config.dense(), part->mutable_optimizer());
    if (config.dense().has_clip()) *part->mutable_clip() = config.dense().clip();
    if (config.dense().frozen()) part->set_frozen(true);
    if (parameter.regularised && config.dense().has_l2()) *part->mutable_l2() = config.dense().l2();
  }
  spec.set_seed(TableSeed(config, name));
  return spec;
}

bool MarksUnadmitted(const TableSpec& spec) {
  const Admission& rule = spec.admission();
  const bool waits = rule.after() > 1 || (rule.has_probability() && rule.probability() < 1);
  return waits && spec.unadmitted() == FEATURE_OOV;
}

uint32_t RowWidth(const TableSpec& spec) {
  uint32_t width = 0;
  for (const PartSpec& p : spec.parts()) width += p.dim();
  return width;
}

uint64_t DenseElements(const TableSpec& spec) {
  uint64_t elements = 1;
  for (uint64_t s : spec.shape()) elements *= s;
  return elements;
}

uint64_t DenseBlocks(const TableSpec& spec) {
  const uint64_t width = RowWidth(spec);
  return (DenseElements(spec) + width - 1) / width;
}

}  // namespace tidegate
