#include "server/optimizer/optimizer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/optimizer/kernels.h"

namespace tidegate {
namespace {

constexpr uint64_t kCachedCorrections = 1024;

// Within these no rule makes NaN of finite rows (README.md, "Rows stay finite").
constexpr float kRateMax = 1e6f;     // also of weight decay and L2
constexpr float kEpsilonMin = 1e-30f;
constexpr float kAlphaMin = 1e-12f;  // FTRL divides by it
constexpr float kFtrlMax = 1e15f;

}  // namespace

// Collects the first complaint about a part's numbers.
class PartOptimizer::RangeCheck {
 public:
  explicit RangeCheck(const std::string& part) : part_(part) {}
  void NotNegative(const std::string& field, float value) {
    if (!(std::isfinite(value) && value >= 0)) Fail(field, value, "finite and >= 0");
  }
  void Positive(const std::string& field, float value) {
    if (!(std::isfinite(value) && value > 0)) Fail(field, value, "finite and > 0");
  }
  void AtMost(const std::string& field, float value, float limit) {
    if (!(value <= limit)) Fail(field, value, absl::StrCat("at most ", limit));
  }
  void AtLeast(const std::string& field, float value, float limit) {
    if (!(value >= limit)) Fail(field, value, absl::StrCat("at least ", limit));
  }
  void Fraction(const std::string& field, float value) {
    if (!(value >= 0 && value < 1)) Fail(field, value, "in [0, 1)");
  }
  const absl::Status& status() const { return status_; }

 private:
  void Fail(const std::string& field, float value, const std::string& must) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(
        absl::StrCat("part \"", part_, "\": ", field, " is ", value, "; it must be ", must));
  }
  const std::string& part_;
  absl::Status status_;
};

double PowerOf(double base, uint64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

PartOptimizer::AdamCorrection PartOptimizer::Constants::ComputeCorrection(uint64_t step) const {
  const double root = std::sqrt(1.0 - PowerOf(beta2, step));
  return {static_cast<float>(root / (1.0 - PowerOf(beta1, step))),
          static_cast<float>(epsilon * root)};
}

template <typename AdamLike>
void PartOptimizer::ReadAdam(const char* kind, const AdamLike& adam, RangeCheck* check) {
  Constants& c = constants_;
  c.lr = adam.lr();
  c.beta1 = adam.beta1();
  c.beta2 = adam.beta2();
  c.epsilon = adam.epsilon();
  c.global_step = adam.step() == Adam::GLOBAL;
  check->Fraction(absl::StrCat(kind, ".beta1"), c.beta1);
  check->Fraction(absl::StrCat(kind, ".beta2"), c.beta2);
  check->AtLeast(absl::StrCat(kind, ".epsilon"), c.epsilon, kEpsilonMin);
  slots_ = 2 * c.dim;
}

absl::Status PartOptimizer::ReadKind(const PartSpec& part, RangeCheck* check) {
  Constants& c = constants_;
  const Optimizer& optimizer = part.optimizer();
  kind_ = optimizer.kind_case();
  using namespace kernels;
  switch (kind_) {
    case Optimizer::kSgd:
      c.lr = optimizer.sgd().lr();
      kernel_ = Choose<SgdRule>(c);
      break;
    case Optimizer::kMomentum:
      c.lr = optimizer.momentum().lr();
      c.momentum = optimizer.momentum().momentum();
      check->Fraction("momentum.momentum", c.momentum);
      slots_ = c.dim;
      kernel_ = optimizer.momentum().nesterov() ? Choose<NesterovRule>(c) : Choose<MomentumRule>(c);
      break;
    case Optimizer::kAdagrad:
      c.lr = optimizer.adagrad().lr();
      c.epsilon = optimizer.adagrad().epsilon();
      c.initial_accumulator = optimizer.adagrad().initial_accumulator();
      check->AtLeast("adagrad.epsilon", c.epsilon, kEpsilonMin);
      check->NotNegative("adagrad.initial_accumulator", c.initial_accumulator);
      slots_ = c.dim;
      kernel_ = Choose<AdaGradRule>(c);
      break;
    case Optimizer::kRowwiseAdagrad:
      c.lr = optimizer.rowwise_adagrad().lr();
      c.epsilon = optimizer.rowwise_adagrad().epsilon();
      c.initial_accumulator = optimizer.rowwise_adagrad().initial_accumulator();
      check->AtLeast("rowwise_adagrad.epsilon", c.epsilon, kEpsilonMin);
      check->NotNegative("rowwise_adagrad.initial_accumulator", c.initial_accumulator);
      slots_ = 1;
      kernel_ = ChooseRowWiseAdaGrad(c);
      break;
    case Optimizer::kAdam:
      ReadAdam("adam", optimizer.adam(), check);
      kernel_ = Choose<AdamRule>(c);
      break;
    case Optimizer::kAdamw:
      ReadAdam("adamw", optimizer.adamw(), check);
      c.weight_decay = optimizer.adamw().weight_decay();
      check->NotNegative("adamw.weight_decay", c.weight_decay);
      check->AtMost("adamw.weight_decay", c.weight_decay, kRateMax);
      kernel_ = Choose<AdamWRule>(c);
      break;
    case Optimizer::kFtrl:
      c.lr = optimizer.ftrl().alpha();
      c.ftrl_beta = optimizer.ftrl().beta();
      c.ftrl_l1 = optimizer.ftrl().l1();
      c.ftrl_l2 = optimizer.ftrl().l2();
      check->Positive("ftrl.alpha", c.lr);
      check->Positive("lr_scale (of an FTRL part)", part.lr_scale());
      check->NotNegative("ftrl.beta", c.ftrl_beta);
      check->NotNegative("ftrl.l1", c.ftrl_l1);
      check->NotNegative("ftrl.l2", c.ftrl_l2);
      check->AtLeast("ftrl.alpha x lr_scale", c.lr * part.lr_scale(), kAlphaMin);
      check->AtMost("ftrl.beta", c.ftrl_beta, kFtrlMax);
      check->AtMost("ftrl.l1", c.ftrl_l1, kFtrlMax);
      check->AtMost("ftrl.l2", c.ftrl_l2, kFtrlMax);
      slots_ = 2 * c.dim;
      kernel_ = Choose<FtrlRule>(c);
      break;
    case Optimizer::kMovingAverage:
      c.decay = optimizer.moving_average().decay();
      check->Fraction("moving_average.decay", c.decay);
      kernel_ = Choose<MovingAverageRule>(c);
      break;
    case Optimizer::kSum:
      kernel_ = Choose<SumRule>(c);
      break;
    case Optimizer::KIND_NOT_SET:
      return absl::InvalidArgumentError(absl::StrCat(
          "part \"", part.name(), "\" has no optimizer; name one, or say frozen: true"));
  }
  check->NotNegative("learning rate", c.lr);
  check->AtMost("learning rate x lr_scale", c.lr * part.lr_scale(), kRateMax);
  return check->status();
}

absl::StatusOr<PartOptimizer> PartOptimizer::Create(const PartSpec& part) {
  PartOptimizer made;
  Constants& c = made.constants_;
  c.dim = part.dim();
  if (c.dim == 0) {
    return absl::InvalidArgumentError(absl::StrCat("part \"", part.name(), "\": dim is 0"));
  }
  c.inverse_dim = 1.0f / static_cast<float>(c.dim);
  if (part.frozen()) return made;

  RangeCheck check(part.name());
  check.NotNegative("lr_scale", part.lr_scale());
  check.NotNegative("l2.weight", part.l2().weight());
  check.AtMost("l2.weight", part.l2().weight(), kRateMax);
  check.NotNegative("clip.value", part.clip().value());
  check.NotNegative("clip.norm", part.clip().norm());
  const bool lazy = part.l2().scope() == L2::ALL_LAZY;
  (lazy ? c.lazy_l2 : c.l2) = part.l2().weight();
  c.clip_value = part.clip().value();
  c.clip_norm = part.clip().norm();
  if (absl::Status status = made.ReadKind(part, &check); !status.ok()) return status;

  const bool statistic =
      made.kind_ == Optimizer::kMovingAverage || made.kind_ == Optimizer::kSum;
  if (part.l2().weight() > 0 && (statistic || (lazy && made.kind_ == Optimizer::kFtrl))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "part \"", part.name(), "\": l2 ", lazy ? "of scope ALL_LAZY " : "",
        "does not go with this optimizer; remove it", statistic ? "" : " or use ftrl.l2"));
  }
  if (statistic && c.clips()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "part \"", part.name(), "\": clip does not go with statistics; remove it"));
  }
  c.lr *= part.lr_scale();
  if (made.HasAdamSteps()) {
    auto corrections = std::make_shared<std::vector<AdamCorrection>>(kCachedCorrections);
    for (uint64_t step = 1; step <= kCachedCorrections; ++step) {
      (*corrections)[step - 1] = c.ComputeCorrection(step);
    }
    c.corrections = std::move(corrections);
  }
  return made;
}

void PartOptimizer::InitializeSlots(const float* values, float* slots) const {
  std::fill_n(slots, slots_, constants_.initial_accumulator);
  if (kind_ != Optimizer::kFtrl) return;
  const float k = constants_.ftrl_beta * (1.0f / constants_.lr) + constants_.ftrl_l2;
  for (uint32_t i = 0; i < constants_.dim; ++i) {
    const float w = values[i];
    const float z = w == 0 ? 0 : vector8::WithSign(constants_.ftrl_l1, -w) - w * k;
    slots[i] = vector8::Clamp(z, kernels::kSlotMax);
  }
}

PartOptimizer::Batch PartOptimizer::Prepare(const UpdateArguments& arguments) const {
  Batch batch;
  const bool sum = kind_ == Optimizer::kSum;
  batch.scale = sum ? 1 : arguments.scale;
  batch.lr = std::min(constants_.lr * arguments.lr_scale, kRateMax);
  batch.clock = arguments.clock;
  if (kind_ == Optimizer::kFtrl) {
    batch.idle = !(batch.lr >= kAlphaMin);
    batch.inverse_lr = batch.idle ? 0 : 1.0f / batch.lr;
  }
  if (HasAdamSteps() && constants_.global_step) {
    const AdamCorrection correction =
        constants_.CorrectionOf(static_cast<uint64_t>(std::max<Clock>(arguments.clock, 0)) + 1);
    batch.adam_lr = batch.lr * correction.lr_factor;
    batch.adam_epsilon = correction.epsilon;
  }
  if (decays()) batch.decay = std::max(0.0, 1.0 - double{batch.lr} * constants_.lazy_l2);
  return batch;
}

float PartOptimizer::DecayFactor(const Batch& batch, Clock last) const {
  if (!decays() || batch.clock <= last) return 1;
  return static_cast<float>(PowerOf(batch.decay, static_cast<uint64_t>(batch.clock - last)));
}

void PartOptimizer::CatchUp(const Batch& batch, float* values, Clock last) const {
  const float factor = DecayFactor(batch, last);
  if (factor == 1) return;
  for (uint32_t i = 0; i < constants_.dim; ++i) values[i] *= factor;
}

}  // namespace tidegate
