#include "worker/data/generator.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

// expm1(x) / x and log1p(x) / x, smooth at 0.
double Expm1Ratio(double x) {
  return std::fabs(x) > 1e-8 ? std::expm1(x) / x : 1 + x * 0.5 * (1 + x / 3 * (1 + 0.25 * x));
}
double Log1pRatio(double x) {
  return std::fabs(x) > 1e-8 ? std::log1p(x) / x : 1 - x * (0.5 - x * (1 / 3.0 - 0.25 * x));
}

constexpr uint64_t kMaxCardinality = uint64_t{1} << 40;
constexpr double kNumericMean = 1.5;  // of the log of a numeric field
constexpr double kNumericDeviation = 1.0;

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

absl::Status OutOfRange(const char* field, const std::string& want) {
  return absl::InvalidArgumentError(absl::StrCat("data.generator.", field, ": must be ", want));
}

}  // namespace

Zipf::Zipf(uint64_t n, double exponent) : n_(static_cast<double>(n)), q_(exponent) {
  h_first_ = H(1.5) - 1;
  h_last_ = H(n_ + 0.5);
  shortcut_ = 2 - HInverse(H(2.5) - Density(2));
}

double Zipf::H(double x) const {
  const double l = std::log(x);
  return Expm1Ratio((1 - q_) * l) * l;
}
double Zipf::Density(double x) const { return std::exp(-q_ * std::log(x)); }
double Zipf::HInverse(double x) const {
  return std::exp(Log1pRatio(std::max(-1.0, x * (1 - q_))) * x);
}

uint64_t Zipf::operator()(Random* random) const {
  for (;;) {
    const double u = h_last_ + random->Unit() * (h_first_ - h_last_);
    const double x = HInverse(u);
    const double k = std::clamp(std::floor(x + 0.5), 1.0, n_);
    if (k - x <= shortcut_ || u >= H(k + 0.5) - Density(k)) return static_cast<uint64_t>(k);
  }
}

absl::StatusOr<Generator> Generator::Create(const GeneratorConfig& c) {
  if (c.cardinality_size() + c.numeric_fields() == 0) {
    return OutOfRange("cardinality", "given, or numeric_fields: there are no fields");
  }
  if (c.cardinality_size() > 10000) return OutOfRange("cardinality", "at most 10000 fields");
  if (c.numeric_fields() > 10000) return OutOfRange("numeric_fields", "at most 10000");
  for (const uint64_t n : c.cardinality()) {
    if (n == 0 || n > kMaxCardinality) return OutOfRange("cardinality", "between 1 and 2^40");
  }
  if (!(c.zipf_exponent() >= 0 && c.zipf_exponent() <= 10)) {
    return OutOfRange("zipf_exponent", "between 0 and 10");
  }
  if (c.factors() > 1024) return OutOfRange("factors", "at most 1024");
  if (!(std::fabs(c.linear_scale()) <= 100)) return OutOfRange("linear_scale", "at most 100");
  if (!(std::fabs(c.factor_scale()) <= 100)) return OutOfRange("factor_scale", "at most 100");
  if (!(std::fabs(c.bias()) <= 100)) return OutOfRange("bias", "at most 100");
  if (!(c.missing_rate() >= 0 && c.missing_rate() <= 1)) {
    return OutOfRange("missing_rate", "between 0 and 1");
  }
  return Generator(c);
}

Generator::Generator(const GeneratorConfig& config)
    : config_(config),
      numeric_fields_(config.numeric_fields()),
      factors_(config.factors()),
      row_seed_(RandomBits(config.seed(), 1)),
      effect_seed_(RandomBits(config.seed(), 2)) {
  for (const uint64_t n : config.cardinality()) zipf_.emplace_back(n, config.zipf_exponent());
  for (size_t j = 0; j < numeric_fields_; ++j) {
    numeric_slope_.push_back(config.linear_scale() * Effect(~uint64_t{0}, j));
  }
}

// Sum of four uniforms, standardised: near enough to normal, bounded, and the same on every libm.
double Generator::Effect(uint64_t stream, uint64_t id) const {
  const uint64_t bits = RandomBits(effect_seed_ ^ Mix64(stream), id);
  const uint64_t sum =
      (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
  return (static_cast<double>(sum) * (1.0 / 65536) - 2) * 1.7320508075688772;
}

void Generator::Make(uint64_t row, GeneratedRow* out) const {
  Random random(RandomBits(row_seed_, row));
  const double missing = config_.missing_rate();
  double logit = config_.bias();
  out->numeric.resize(numeric_fields_);
  for (size_t j = 0; j < numeric_fields_; ++j) {
    const uint64_t a = random();
    const uint64_t b = random();
    const double x = std::floor(std::exp(kNumericMean + kNumericDeviation * ToNormal(a, b)));
    out->numeric[j] = static_cast<int64_t>(x);
    if (missing > 0 && random.Unit() < missing) {
      out->numeric[j] = GeneratedRow::kMissing;
    } else {
      logit += numeric_slope_[j] * (std::log1p(x) - kNumericMean) / kNumericDeviation;
    }
  }
  out->category.resize(zipf_.size());
  for (size_t f = 0; f < zipf_.size(); ++f) {
    uint64_t id = zipf_[f](&random);
    if (missing > 0 && random.Unit() < missing) id = 0;
    out->category[f] = id;
    logit += config_.linear_scale() * Effect(f * (factors_ + 1), id);
  }
  // Sum over pairs of inner products: (|sum|^2 - sum of |.|^2) / 2 for each factor.
  for (size_t k = 1; k <= factors_; ++k) {
    double sum = 0;
    double squares = 0;
    for (size_t f = 0; f < zipf_.size(); ++f) {
      const double v = config_.factor_scale() * Effect(f * (factors_ + 1) + k, out->category[f]);
      sum += v;
      squares += v * v;
    }
    logit += 0.5 * (sum * sum - squares);
  }
  out->probability = Sigmoid(logit);
  out->label = random.Unit() < out->probability;
}

absl::StatusOr<AttainableMetrics> Generator::Attainable(uint64_t begin, uint64_t end) const {
  AttainableMetrics m;
  std::vector<std::pair<double, bool>> scored;
  GeneratedRow row;
  for (uint64_t i = begin; i < end; ++i) {
    Make(i, &row);
    scored.emplace_back(row.probability, row.label);
    m.positives += row.label;
    m.logloss -= std::log(std::max(1e-300, row.label ? row.probability : 1 - row.probability));
  }
  m.rows = scored.size();
  if (m.positives == 0 || m.positives == m.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("generated rows [", begin, ", ", end, ") hold ", m.positives,
                     " positives: no AUC; take more rows or another bias"));
  }
  m.logloss /= static_cast<double>(m.rows);
  std::sort(scored.begin(), scored.end());
  const uint64_t negatives = m.rows - m.positives;
  double wins = 0;  // pairs (positive above negative), ties half
  uint64_t below = 0;
  for (size_t i = 0; i < scored.size();) {
    uint64_t tied_positives = 0;
    uint64_t tied_negatives = 0;
    const double p = scored[i].first;
    for (; i < scored.size() && scored[i].first == p; ++i) {
      scored[i].second ? ++tied_positives : ++tied_negatives;
    }
    wins += static_cast<double>(tied_positives) *
            (static_cast<double>(below) + 0.5 * static_cast<double>(tied_negatives));
    below += tied_negatives;
  }
  m.auc = wins / (static_cast<double>(m.positives) * static_cast<double>(negatives));
  return m;
}

}  // namespace tidegate
