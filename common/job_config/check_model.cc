// The checks of a resolved config's model: what can be told without its graph (worker/model has the rest).
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/job_config/check.h"

namespace tidegate {
namespace {

class ModelChecker {
 public:
  ModelChecker(const JobConfig& config, std::vector<std::string>* problems)
      : config_(config), problems_(*problems) {}

  void Run() {
    const ModelConfig& m = config_.model();
    if (m.task().empty()) Problem("model.task is missing: say what to predict");
    for (const TaskConfig& t : m.task()) Task(t);
    Share("model.preset.dropout", m.preset().dropout());
    for (const BlockConfig& b : m.block()) {
      const std::string at = absl::StrCat("block \"", b.name(), "\": ");
      if (b.has_mlp()) Share(at + "mlp.dropout", b.mlp().dropout());
      if (b.has_dropout()) Share(at + "dropout.rate", b.dropout().rate());
      if (b.has_cosine() && !std::isfinite(b.cosine().scale())) {
        Problem(at, "cosine.scale must be finite");
      }
    }
  }

 private:
  template <typename... T>
  void Problem(const T&... pieces) {
    problems_.push_back(absl::StrCat(pieces...));
  }
  void Share(const std::string& field, float v) {
    if (!(v >= 0 && v < 1)) Problem(field, " is ", v, "; it must be finite, at least 0 and below 1");
  }

  void Task(const TaskConfig& t) {
    const std::string at = absl::StrCat("task \"", t.name(), "\": ");
    if (t.has_probability() && t.has_logit()) {
      Problem(at, "logit and probability: name one of them");
    } else if (t.has_probability() && t.loss() != TaskConfig::BCE) {
      Problem(at, "probability is for loss BCE; name a logit");
    } else if (!t.has_probability() && t.logit().empty()) {
      Problem(at, "logit: name the block that predicts it");
    }
    if (!std::isfinite(t.weight()) || t.weight() < 0) {
      Problem(at, "weight is ", t.weight(), "; it must be finite, at least 0");
    }
    if (t.loss() == TaskConfig::BPR && !config_.data().has_negatives()) {
      Problem(at, "loss BPR pairs a positive with the negatives drawn for it: set data.negatives");
    }
    Softmax(t, at);
  }

  void Softmax(const TaskConfig& t, const std::string& at) {
    if (t.loss() != TaskConfig::SOFTMAX) {
      if (t.has_query() || t.has_item() || t.has_item_feature() || t.has_temperature() ||
          t.has_cosine()) {
        Problem(at, "query, item, item_feature, temperature and cosine are for loss SOFTMAX");
      }
      return;
    }
    if (t.query().empty()) Problem(at, "query: name the block of the user's vector");
    if (t.item().empty()) Problem(at, "item: name the block of the item's vector");
    if (!std::isfinite(t.temperature()) || t.temperature() <= 0) {
      Problem(at, "temperature is ", t.temperature(), "; it must be finite, above 0");
    }
    if (t.item_feature().empty()) {
      Problem(at, "item_feature: name the feature that tells items apart");
    }
    for (const FeatureConfig& f : config_.feature()) {
      if (f.name() == t.item_feature() && f.id().multi_valued()) {
        Problem(at, "item_feature \"", f.name(), "\" is multi-valued; it must have one value a sample");
      }
    }
  }

  const JobConfig& config_;
  std::vector<std::string>& problems_;
};

bool HasBatchNorm(const ModelConfig& m) {
  if (m.preset().norm() == MlpBlock::BATCH) return true;
  return std::any_of(m.block().begin(), m.block().end(), [](const BlockConfig& b) {
    return b.has_batch_norm() || b.mlp().norm() == MlpBlock::BATCH;
  });
}

bool HasLoss(const ModelConfig& m, TaskConfig::Loss loss) {
  return std::any_of(m.task().begin(), m.task().end(),
                     [&](const TaskConfig& t) { return t.loss() == loss; });
}

}  // namespace

void CheckModel(const JobConfig& config, std::vector<std::string>* problems) {
  ModelChecker(config, problems).Run();
}

void ModelWarnings(const JobConfig& config, std::vector<std::string>* warnings) {
  const std::string unequal = ": W workers do not equal one worker";
  if (HasBatchNorm(config.model())) {
    warnings->push_back("batch norm takes its statistics from each worker's own part of a batch" + unequal);
  }
  if (config.train().clip_worker_norm() > 0) {
    warnings->push_back("train.clip_worker_norm clips the gradient of each worker's own part of a batch" +
                        unequal);
  }
  if (HasLoss(config.model(), TaskConfig::SOFTMAX)) {
    warnings->push_back("loss SOFTMAX takes its candidates from each worker's own part of a batch" +
                        unequal);
  }
}

}  // namespace tidegate
