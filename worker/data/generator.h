#pragma once
// A click log with a planted model, as data without a file. Row i is a pure function of (config,
// i):
//   categories: Zipf-distributed ids 1..cardinality (0: missing)
//   numeric fields: integers, floor of a log-normal
//   logit = bias + sum of linear(field, id) + sum over pairs of <factor(field, id), factor(field',
//   id')>
//           + numeric effects;  label ~ Bernoulli(sigmoid(logit))
// where linear and factor are pure functions of (seed, field, id). Zipf by rejection-inversion
// (Hormann & Derflinger, ACM TOMACS 1996). Thread-safe (const only).

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/random.h"
#include "proto/job.pb.h"

namespace tidegate {

// Ranks 1..n with probability proportional to rank^-exponent.
class Zipf {
 public:
  Zipf(uint64_t n, double exponent);  // n >= 1, exponent >= 0
  uint64_t operator()(Random* random) const;

 private:
  double H(double x) const;
  double Density(double x) const;
  double HInverse(double x) const;
  double n_, q_, h_first_, h_last_, shortcut_;
};

struct GeneratedRow {
  static constexpr int64_t kMissing = -1;  // of a numeric field
  std::vector<int64_t> numeric;            // >= 0, or kMissing
  std::vector<uint64_t> category;          // ids from 1; 0: missing
  double probability = 0;                  // the true one
  bool label = false;
};

struct AttainableMetrics {
  uint64_t rows = 0;
  uint64_t positives = 0;
  double auc = 0;      // of the true probabilities against the labels drawn
  double logloss = 0;  // the same
};

class Generator {
 public:
  // INVALID_ARGUMENT names the field of generator {} that is out of range.
  static absl::StatusOr<Generator> Create(const GeneratorConfig& config);

  size_t numeric_fields() const { return numeric_fields_; }
  size_t category_fields() const { return zipf_.size(); }
  const GeneratorConfig& config() const { return config_; }

  void Make(uint64_t row, GeneratedRow* out) const;

  // What the planted model itself scores on rows [begin, end): nothing can do better but by luck.
  // INVALID_ARGUMENT when the rows hold one class only. 16 bytes of memory a row.
  absl::StatusOr<AttainableMetrics> Attainable(uint64_t begin, uint64_t end) const;

 private:
  explicit Generator(const GeneratorConfig& config);
  double Effect(uint64_t stream, uint64_t id) const;  // standardised, of (seed, stream, id)

  GeneratorConfig config_;
  size_t numeric_fields_ = 0;
  size_t factors_ = 0;
  uint64_t row_seed_ = 0;
  uint64_t effect_seed_ = 0;
  std::vector<Zipf> zipf_;
  std::vector<double> numeric_slope_;
};

}  // namespace tidegate
