// The checks of a resolved config. Each problem is a line that names the field.
#include "common/job_config/check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/job_config/job_config.h"

namespace tidegate {
namespace {

constexpr uint32_t kMaxDim = 4096;

bool IsName(const std::string& s) {
  if (s.empty() || s.size() > 200) return false;
  return std::all_of(s.begin(), s.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

class Checker {
 public:
  Checker(const JobConfig& config, std::vector<std::string>* problems)
      : config_(config), problems_(*problems) {}

  void Run() {
    Names();
    CheckData(config_, &problems_);
    for (const TableConfig& t : config_.table()) Table(t);
    Dense();
    CheckModel(config_, &problems_);
    CheckMetrics(config_, &problems_);
    Train();
    Cluster();
  }

 private:
  template <typename... T>
  void Problem(const T&... pieces) {
    problems_.push_back(absl::StrCat(pieces...));
  }
  // `low` < value (or <= with closed), value < `high` (or <=).
  void Range(const std::string& field, double value, double low, bool low_closed, double high,
             bool high_closed) {
    CheckRange(field, value, low, low_closed, high, high_closed, &problems_);
  }
  void NotNegative(const std::string& field, double v) { Range(field, v, 0, true, HUGE_VAL, false); }
  // Within these, rows stay finite (server/optimizer/README.md).
  void Rate(const std::string& field, double v) {
    rate_ = v;
    Range(field, v, 0, false, 1e6, true);
  }
  void Decay(const std::string& field, double v) { Range(field, v, 0, true, 1e6, true); }
  void Epsilon(const std::string& field, double v) { Range(field, v, 1e-30, true, HUGE_VAL, false); }

  template <typename Items>
  void Unique(const std::string& what, const Items& items) {
    std::set<std::string> seen;
    for (const auto& item : items) {
      if (!IsName(item.name())) {
        Problem(what, " name \"", item.name(), "\": write letters, digits, _ or -");
      } else if (!seen.insert(item.name()).second) {
        Problem(what, " \"", item.name(), "\" is there twice");
      }
    }
  }

  void Names() {
    if (!IsName(config_.name())) Problem("name \"", config_.name(), "\": write letters, digits, _ or -");
    Unique("feature", config_.feature());
    Unique("table", config_.table());
    Unique("task", config_.model().task());
  }

  void Adam_(const std::string& at, const Adam& a) {
    Rate(at + "adam.lr", a.lr());
    Range(at + "adam.beta1", a.beta1(), 0, true, 1, false);
    Range(at + "adam.beta2", a.beta2(), 0, true, 1, false);
    Epsilon(at + "adam.epsilon", a.epsilon());
  }
  void AdamW_(const std::string& at, const AdamW& a) {
    Rate(at + "adamw.lr", a.lr());
    Range(at + "adamw.beta1", a.beta1(), 0, true, 1, false);
    Range(at + "adamw.beta2", a.beta2(), 0, true, 1, false);
    Epsilon(at + "adamw.epsilon", a.epsilon());
    Decay(at + "adamw.weight_decay", a.weight_decay());
  }
  void Clip_(const std::string& at, const Clip& c) {
    NotNegative(at + "clip.value", c.value());
    NotNegative(at + "clip.norm", c.norm());
  }
  void Momentum_(const std::string& at, const Momentum& m) {
    Rate(at + "momentum.lr", m.lr());
    Range(at + "momentum.momentum", m.momentum(), 0, true, 1, false);
  }
  template <typename AdaGradLike>
  void AdaGrad_(const std::string& at, const AdaGradLike& a) {
    Rate(at + "lr", a.lr());
    NotNegative(at + "initial_accumulator", a.initial_accumulator());
    Epsilon(at + "epsilon", a.epsilon());
  }

  void Part(const std::string& at, const PartConfig& p) {
    if (p.dim() < 1 || p.dim() > kMaxDim) {
      Problem(at, "dim is ", p.dim(), "; from 1 to ", kMaxDim);
    }
    switch (p.init().kind_case()) {
      case Initializer::kConstant: {
        if (!std::isfinite(p.init().constant())) Problem(at, "init.constant must be finite");
        break;
      }
      case Initializer::kNormal: NotNegative(at + "init.normal", p.init().normal()); break;
      case Initializer::kUniform: NotNegative(at + "init.uniform", p.init().uniform()); break;
      case Initializer::KIND_NOT_SET: break;
    }
    switch (p.optimizer_case()) {
      case PartConfig::kSgd: Rate(at + "sgd.lr", p.sgd().lr()); break;
      case PartConfig::kMomentum: Momentum_(at, p.momentum()); break;
      case PartConfig::kAdagrad: AdaGrad_(at + "adagrad.", p.adagrad()); break;
      case PartConfig::kRowwiseAdagrad: AdaGrad_(at + "rowwise_adagrad.", p.rowwise_adagrad()); break;
      case PartConfig::kAdam: Adam_(at, p.adam()); break;
      case PartConfig::kAdamw: AdamW_(at, p.adamw()); break;
      case PartConfig::kFtrl:
        Rate(at + "ftrl.alpha", p.ftrl().alpha());
        Range(at + "ftrl.beta", p.ftrl().beta(), 0, true, 1e15, true);
        Range(at + "ftrl.l1", p.ftrl().l1(), 0, true, 1e15, true);
        Range(at + "ftrl.l2", p.ftrl().l2(), 0, true, 1e15, true);
        break;
      case PartConfig::OPTIMIZER_NOT_SET:
        if (!p.frozen()) {
          Problem(at, "no optimizer: sgd, momentum, adagrad, rowwise_adagrad, adam, adamw or ftrl, "
                      "or frozen: true");
        }
    }
    Decay(at + "l2.weight", p.l2().weight());
    if (p.has_ftrl() && p.l2().weight() > 0 && p.l2().scope() == L2::ALL_LAZY) {
      Problem(at, "l2 of scope ALL_LAZY does not go with ftrl: use ftrl.l2");
    }
    Clip_(at, p.clip());
    NotNegative(at + "lr_scale", p.lr_scale());
    const bool rate_said = !(rate_ > 0 && rate_ <= 1e6);
    if (p.optimizer_case() != PartConfig::OPTIMIZER_NOT_SET && !rate_said) {
      Range(at + "lr_scale x the optimizer's rate", p.lr_scale() * rate_, p.has_ftrl() ? 1e-12 : 0, true, 1e6, true);
    }
  }

  void Table(const TableConfig& t) {
    const std::string at = absl::StrCat("table \"", t.name(), "\": ");
    if (t.part().empty()) Problem(at, "no part: say what a row holds");
    Unique(absl::StrCat(at, "part"), t.part());
    uint64_t width = 0;
    for (const PartConfig& p : t.part()) {
      Part(absl::StrCat(at, "part \"", p.name(), "\": "), p);
      width += p.dim();
    }
    if (width > 2 * kMaxDim) Problem(at, "a row has ", width, " elements; at most ", 2 * kMaxDim);
    if (t.has_admit_after() && t.has_admit_probability()) {
      Problem(at, "admit_after and admit_probability: choose one");
    }
    if (t.has_admit_probability()) {
      Range(at + "admit_probability", t.admit_probability(), 0, false, 1, true);
    }
    if (t.has_evict()) {
      NotNegative(at + "evict.min_touches_per_clock", t.evict().min_touches_per_clock());
      if (t.evict().sweep_every_clocks() == 0) Problem(at, "evict.sweep_every_clocks is 0");
    }
  }

  void Dense() {
    const DenseConfig& d = config_.dense();
    switch (d.optimizer_case()) {
      case DenseConfig::kSgd: Rate("dense.sgd.lr", d.sgd().lr()); break;
      case DenseConfig::kMomentum: Momentum_("dense.", d.momentum()); break;
      case DenseConfig::kAdagrad: AdaGrad_("dense.adagrad.", d.adagrad()); break;
      case DenseConfig::kAdam: Adam_("dense.", d.adam()); break;
      case DenseConfig::kAdamw: AdamW_("dense.", d.adamw()); break;
      case DenseConfig::OPTIMIZER_NOT_SET: break;
    }
    Clip_("dense.", d.clip());
    Decay("dense.l2.weight", d.l2().weight());
    if (d.block() < 1 || d.block() > (1u << 18)) {
      Problem("dense.block is ", d.block(), "; from 1 to ", 1 << 18);
    }
  }

  void MonitorOf(const std::string& field, const std::string& monitor) {
    auto m = ParseMonitor(monitor, config_);
    if (!m.ok()) {
      Problem(field, ": ", m.status().message());
    } else if (!config_.data().has_valid()) {
      Problem(field, ": \"", monitor, "\" needs data.valid");
    }
  }

  void Train() {
    const TrainConfig& t = config_.train();
    if (t.global_batch() < 1 || t.global_batch() > (1u << 24)) {
      Problem("train.global_batch is ", t.global_batch(), "; from 1 to ", 1 << 24);
    }
    if (t.global_batch() < config_.cluster().workers()) {
      Problem("train.global_batch is ", t.global_batch(), ", fewer samples than cluster.workers (",
              config_.cluster().workers(), ")");
    }
    Range("train.epochs", t.epochs(), 1, true, 100000, true);
    auto staleness = ParseStaleness(t.staleness());
    if (!staleness.ok()) Problem("train.staleness: ", staleness.status().message());
    if (t.drop_slowest() > 0 && t.staleness() != "0") {
      Problem("train.drop_slowest is ", t.drop_slowest(), " with train.staleness \"", t.staleness(),
              "\": only at staleness \"0\" does a clock wait for the slowest worker; leave it out");
    }
    Range("train.drop_slowest", t.drop_slowest(), 0, true, 65536, true);
    Range("train.pipeline_depth", t.pipeline_depth(), 1, true, 32, true);
    NotNegative("train.stall_timeout_s", t.stall_timeout_s());
    NotNegative("train.clip_worker_norm", t.clip_worker_norm());
    NotNegative("train.checkpoint.every_s", t.checkpoint().every_s());
    Range("train.checkpoint.keep", t.checkpoint().keep(), 1, true, 1e6, true);
    Range("train.checkpoint.full_every", t.checkpoint().full_every(), 1, true, 1000, true);
    for (const InitFrom& init : t.init_from()) {
      if (init.export_().empty()) Problem("train.init_from.export is missing: the folder of an export (tidegate export)");
    }
    if (t.has_plateau()) {
      Range("train.plateau.factor", t.plateau().factor(), 0, false, 1, false);
      Range("train.plateau.patience", t.plateau().patience(), 1, true, 100000, true);
      NotNegative("train.plateau.min_delta", t.plateau().min_delta());
      Range("train.plateau.min_scale", t.plateau().min_scale(), 0, false, 1, true);
      MonitorOf("train.plateau.monitor", t.plateau().monitor());
    }
    if (t.has_schedule()) CheckSchedule(t.schedule());
    if (t.has_stop()) {
      Range("train.stop.patience", t.stop().patience(), 1, true, 100000, true);
      NotNegative("train.stop.min_delta", t.stop().min_delta());
      MonitorOf("train.stop.monitor", t.stop().monitor());
    }
  }

  void CheckSchedule(const Schedule& s) {
    const bool periodic = s.kind() != Schedule::CONSTANT;
    if (periodic && s.every() == 0) {
      Problem("train.schedule.every is missing: ", Schedule::Kind_Name(s.kind()), " needs a number of clocks");
    }
    if (!periodic && s.every() != 0) Problem("train.schedule.every is for kind STEP or COSINE");
    if (s.has_factor() && s.kind() != Schedule::STEP) Problem("train.schedule.factor is for kind STEP");
    if (s.has_min_scale() && s.kind() != Schedule::COSINE) Problem("train.schedule.min_scale is for kind COSINE");
    Range("train.schedule.factor", s.factor(), 0, false, 1, true);
    Range("train.schedule.min_scale", s.min_scale(), 0, true, 1, true);
  }

  void Cluster() {
    const ClusterConfig& c = config_.cluster();
    Range("cluster.servers", c.servers(), 1, true, 4096, true);
    Range("cluster.workers", c.workers(), 1, true, 65536, true);
    if (c.shards() == 0 || c.shards() > 65536 || (c.shards() & (c.shards() - 1)) != 0) {
      Problem("cluster.shards is ", c.shards(), "; a power of two up to 65536");
    } else if (c.shards() < c.servers()) {
      Problem("cluster.shards is ", c.shards(), ", fewer than cluster.servers (", c.servers(), ")");
    }
    uint64_t widest = config_.dense().block();
    for (const TableConfig& t : config_.table()) {
      uint64_t width = 0;
      for (const PartConfig& p : t.part()) width += p.dim();
      widest = std::max(widest, width);
    }
    const uint64_t lowest = std::max(uint64_t{256} << 10, 4096 + 8 * widest);  // two rows and the header
    if (c.message_limit_bytes() < lowest || c.message_limit_bytes() > (1ull << 30)) {
      Problem("cluster.message_limit_bytes is ", c.message_limit_bytes(), "; from ", lowest,
              " (256 KiB and two of the widest rows) to 2^30");
    }
    if (c.replicas() == 0 || c.replicas() > 16) {
      Problem("cluster.replicas is ", c.replicas(), "; copies of each shard, from 1 to 16");
    } else if ((c.durability() == ClusterConfig::NONE) != (c.replicas() == 1)) {
      Problem("cluster.durability is ", ClusterConfig::Durability_Name(c.durability()), " with cluster.replicas ", c.replicas(),
              ": replicas above 1 go with SYNC or ASYNC, one copy with NONE");
    } else if (c.durability() == ClusterConfig::ASYNC && config_.train().staleness() == "0") {
      Problem("cluster.durability is ASYNC with train.staleness \"0\": a clock that workers have passed could be lost with its "
              "server, and would never be applied again; take SYNC, or a staleness above 0");
    }
  }

  const JobConfig& config_;
  std::vector<std::string>& problems_;
  double rate_ = 0;  // of the optimizer that was checked last
};

}  // namespace

void CheckJobConfig(const JobConfig& config, std::vector<std::string>* problems) {
  Checker(config, problems).Run();
}

std::vector<std::string> JobConfigWarnings(const JobConfig& resolved) {
  std::vector<std::string> warnings;
  const bool sync = resolved.train().staleness() == "0";
  if (sync && resolved.cluster().workers() > 1) ModelWarnings(resolved, &warnings);
  if (sync && resolved.train().pipeline_depth() > 1 && resolved.train().has_pipeline_depth()) {
    warnings.push_back("train.pipeline_depth is 1 at staleness 0");
  }
  const uint32_t drop = resolved.train().drop_slowest(), workers = resolved.cluster().workers();
  if (sync && drop > 0 && drop >= workers) {
    warnings.push_back(absl::StrCat("train.drop_slowest is ", drop, " with cluster.workers ", workers, ": ",
                                    workers == 1 ? std::string("it has no effect")
                                                 : absl::StrCat("as ", workers - 1, ", for one push of each clock counts")));
  }
  const CheckpointConfig& checkpoint = resolved.train().checkpoint();
  if (resolved.cluster().on_data_loss() == ClusterConfig::RESTORE && checkpoint.every_s() <= 0 && checkpoint.every_clocks() == 0) {
    warnings.push_back("cluster.on_data_loss is RESTORE without train.checkpoint.every_s or every_clocks: there is nothing to go on from "
                       "before an epoch has ended");
  }
  for (const TableConfig& t : resolved.table()) {
    const bool used = std::any_of(resolved.feature().begin(), resolved.feature().end(),
                                  [&](const FeatureConfig& f) { return f.table() == t.name(); });
    if (!used) warnings.push_back(absl::StrCat("no feature uses table \"", t.name(), "\""));
    const bool waits = t.admit_after() > 1 || (t.has_admit_probability() && t.admit_probability() < 1);
    if (t.unadmitted() == FEATURE_OOV && !waits) {
      warnings.push_back(absl::StrCat("table \"", t.name(), "\": unadmitted: FEATURE_OOV without admit_after or admit_probability: every key is admitted at once"));
    }
  }
  const DataConfig& d = resolved.data();
  if (d.format() == DataConfig::GENERATED && d.has_valid()) {
    const uint64_t train_end = d.train().first_row() + d.train().rows();
    const uint64_t valid_end = d.valid().first_row() + d.valid().rows();
    if (d.valid().first_row() < train_end && d.train().first_row() < valid_end) {
      warnings.push_back("data.valid holds rows of data.train: set data.valid.first_row");
    }
  }
  return warnings;
}

}  // namespace tidegate
