#include "worker/model/softmax_loss.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/stable_hash.h"
#include "worker/model/kernels.h"

namespace tidegate {
namespace {

constexpr size_t kTileQueries = 256;
constexpr float kNever = -1e30f;  // a logit whose exponential is 0
constexpr float kNormEpsilon = 1e-12f;

// exp(x) for x <= 0 within 2e-7 of it, down to exp(-87) (Moshier's Cephes, expf): it vectorises.
inline float NegativeExp(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;  // rounded
  const float r = x - n * 0.693359375f - n * -2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  return y * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

}  // namespace

KeyFrequencies::KeyFrequencies(size_t buckets_log2) : buckets_(size_t{1} << buckets_log2) {}

size_t KeyFrequencies::IndexOf(Key key) const { return Mix64(key) & (buckets_.size() - 1); }

double KeyFrequencies::Decayed(const Bucket& bucket) const {
  return bucket.share * std::pow(1 - kRate, static_cast<double>(batch_ - bucket.batch));
}

void KeyFrequencies::Count(std::span<const Key> keys) {
  if (keys.empty()) return;
  ++batch_;
  const double one = kRate / static_cast<double>(keys.size());
  for (Key key : keys) {
    Bucket& bucket = buckets_[IndexOf(key)];
    bucket.share = static_cast<float>(Decayed(bucket) + one);
    bucket.batch = batch_;
  }
}

double KeyFrequencies::ShareOf(Key key) const {
  return Decayed(buckets_[IndexOf(key)]) / (1 - std::pow(1 - kRate, static_cast<double>(batch_)));
}

void InBatchSoftmax::CountItems(const Batch& batch) {
  keys_.clear();
  row_key_.resize(batch.rows);
  candidate_.resize(batch.rows);
  correction_.resize(batch.rows);
  const std::vector<uint32_t>& offsets = batch.items->offsets;
  for (size_t r = 0; r < batch.rows; ++r) {
    candidate_[r] = offsets[r + 1] > offsets[r] && !std::isnan(batch.labels[r]);
    row_key_[r] = candidate_[r] != 0 ? batch.items->keys[offsets[r]] : 0;
    if (candidate_[r] != 0) keys_.push_back(row_key_[r]);
  }
  frequencies_.Count(keys_);
  for (size_t r = 0; r < batch.rows; ++r) {
    correction_[r] = candidate_[r] == 0
                         ? kNever
                         : static_cast<float>(-std::log(frequencies_.ShareOf(row_key_[r])));
  }
}

void InBatchSoftmax::Prepare(const float* from, const Batch& batch, Side* side) const {
  side->value = from;
  std::fill_n(side->gradient.Resize(batch.rows * batch.dim), batch.rows * batch.dim, 0.0f);
  if (!options_.cosine) return;
  float* unit = side->unit.Resize(batch.rows * batch.dim);
  float* inverse = side->inverse_norm.Resize(batch.rows);
  for (size_t r = 0; r < batch.rows; ++r) {
    const float* x = from + r * batch.dim;
    inverse[r] = 1.0f / std::sqrt(DotProduct(x, x, batch.dim) + kNormEpsilon);
    for (uint32_t d = 0; d < batch.dim; ++d) unit[r * batch.dim + d] = x[d] * inverse[r];
  }
  side->value = unit;
}

double InBatchSoftmax::Normalise(const Batch& batch, size_t first, size_t count,
                                 float* logits) const {
  const float inverse_temperature = 1.0f / options_.temperature;
  double total = 0;
  for (size_t q = 0; q < count; ++q) {
    const size_t own = first + q;
    float* __restrict c = logits + q * batch.rows;
    if (candidate_[own] == 0 || !(batch.labels[own] > 0)) {
      std::fill_n(c, batch.rows, 0.0f);
      continue;
    }
    const Key key = row_key_[own];
    float highest = kNever;
    for (size_t j = 0; j < batch.rows; ++j) {
      const float corrected = c[j] * inverse_temperature + correction_[j];
      c[j] = row_key_[j] == key && j != own ? kNever : corrected;
      highest = c[j] > highest ? c[j] : highest;
    }
    const double of_own = static_cast<double>(c[own]) - highest;
    for (size_t j = 0; j < batch.rows; ++j) c[j] = NegativeExp(c[j] - highest);
    double sum = 0;
    for (size_t j = 0; j < batch.rows; ++j) sum += c[j];
    const double weight = static_cast<double>(options_.task_weight) *
                          (batch.weights.empty() ? 1.0f : batch.weights[own]);
    total += weight * (std::log(sum) - of_own);
    const auto scale = static_cast<float>(weight * inverse_temperature / sum);
    for (size_t j = 0; j < batch.rows; ++j) c[j] *= scale;
    c[own] -= static_cast<float>(weight * inverse_temperature);
  }
  return total;
}

// Through the division by the norm: dx = (d - u (u . d)) / |x|.
void InBatchSoftmax::AddGradient(const Batch& batch, Side* side, float* to) const {
  if (to == nullptr) return;
  float* d = side->gradient.data();
  for (size_t r = 0; options_.cosine && r < batch.rows; ++r) {
    float* __restrict dr = d + r * batch.dim;
    const float* __restrict unit = side->value + r * batch.dim;
    const float along = DotProduct(unit, dr, batch.dim);
    const float inverse = side->inverse_norm.data()[r];
    for (uint32_t i = 0; i < batch.dim; ++i) dr[i] = (dr[i] - unit[i] * along) * inverse;
  }
  AddTo(d, batch.rows * batch.dim, to);
}

double InBatchSoftmax::Run(const Batch& batch) {
  CountItems(batch);
  Prepare(batch.query, batch, &query_);
  Prepare(batch.item, batch, &item_);
  const auto rows = static_cast<int64_t>(batch.rows);
  const auto dim = static_cast<int64_t>(batch.dim);
  double total = 0;
  for (size_t first = 0; first < batch.rows; first += kTileQueries) {
    const size_t count = std::min(kTileQueries, batch.rows - first);
    const auto queries = static_cast<int64_t>(count);
    float* logits = logits_.Resize(count * batch.rows);
    const float* query = query_.value + first * batch.dim;
    backend_->Gemm(Op::kPlain, Op::kTransposed, queries, rows, dim, query, item_.value, 0.0f, logits);
    total += Normalise(batch, first, count, logits);
    backend_->Gemm(Op::kPlain, Op::kPlain, queries, dim, rows, logits, item_.value, 0.0f,
                   query_.gradient.data() + first * batch.dim);
    backend_->Gemm(Op::kTransposed, Op::kPlain, rows, dim, queries, logits, query, 1.0f,
                   item_.gradient.data());
  }
  AddGradient(batch, &query_, batch.d_query);
  AddGradient(batch, &item_, batch.d_item);
  return total;
}

}  // namespace tidegate
