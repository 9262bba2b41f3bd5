#include "tests/conformance/reference_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "common/random.h"
#include "common/stable_hash.h"

namespace tidegate::conformance {
namespace {

double Power(double base, uint64_t n) {
  double result = 1;
  for (; n > 0; n >>= 1) {
    if (n & 1) result *= base;
    base *= base;
  }
  return result;
}

float Truncated(uint32_t bits) { return std::bit_cast<float>(bits & 0xffff0000u); }
float NearestBfloat16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t low = bits & 0xffffu;
  const bool odd = (bits >> 16) & 1;
  return Truncated(low > 0x8000u || (low == 0x8000u && odd) ? bits + 0x10000u : bits);
}

float LearningRate(const PartSpec& part) {
  const Optimizer& o = part.optimizer();
  switch (o.kind_case()) {
    case Optimizer::kSgd: return o.sgd().lr();
    case Optimizer::kMomentum: return o.momentum().lr();
    case Optimizer::kAdagrad: return o.adagrad().lr();
    case Optimizer::kRowwiseAdagrad: return o.rowwise_adagrad().lr();
    case Optimizer::kAdam: return o.adam().lr();
    case Optimizer::kAdamw: return o.adamw().lr();
    case Optimizer::kFtrl: return o.ftrl().alpha();
    default: return 0;
  }
}

void ReferenceClip(const Clip& clip, std::vector<float>* g) {
  if (clip.value() > 0) {
    for (float& x : *g) x = std::max(-clip.value(), std::min(clip.value(), x));
  }
  if (!(clip.norm() > 0)) return;
  double lane[8] = {};
  for (size_t i = 0; i < g->size(); ++i) lane[i % 8] += double{(*g)[i]} * (*g)[i];
  const double norm =
      std::sqrt(((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7])));
  if (!(norm > clip.norm())) return;
  for (float& x : *g) x *= static_cast<float>(clip.norm() / norm);
}

float DecayOver(const PartSpec& part, float lr_scale, Clock clocks) {
  if (part.l2().scope() != L2::ALL_LAZY || clocks <= 0 || part.frozen()) return 1;
  const float lr = LearningRate(part) * part.lr_scale() * lr_scale;
  const double factor = 1.0 - static_cast<double>(lr) * part.l2().weight();
  return static_cast<float>(Power(factor < 0 ? 0 : factor, static_cast<uint64_t>(clocks)));
}

}  // namespace

std::vector<float> ReferenceSlots(const PartSpec& part, const float* values) {
  if (part.frozen()) return {};
  const Optimizer& o = part.optimizer();
  const size_t dim = part.dim();
  switch (o.kind_case()) {
    case Optimizer::kMomentum: return std::vector<float>(dim, 0);
    case Optimizer::kAdagrad: return std::vector<float>(dim, o.adagrad().initial_accumulator());
    case Optimizer::kRowwiseAdagrad: return {o.rowwise_adagrad().initial_accumulator()};
    case Optimizer::kAdam:
    case Optimizer::kAdamw: return std::vector<float>(2 * dim, 0);
    case Optimizer::kFtrl: {
      std::vector<float> slots(2 * dim, 0);
      const float alpha = o.ftrl().alpha() * part.lr_scale();
      const float k = o.ftrl().beta() * (1.0f / alpha) + o.ftrl().l2();
      for (size_t i = 0; i < dim; ++i) {
        const float w = values[i];
        if (w > 0) slots[i] = -o.ftrl().l1() - w * k;
        if (w < 0) slots[i] = o.ftrl().l1() - w * k;
      }
      return slots;
    }
    default: return {};
  }
}

void ReferenceApply(const PartSpec& part, float* values, std::vector<float>* slots, const float* gradient,
                    float scale, float lr_scale, uint32_t applications, Clock clock) {
  if (part.frozen()) return;
  const Optimizer& o = part.optimizer();
  const size_t dim = part.dim();
  const float lr = LearningRate(part) * part.lr_scale() * lr_scale;
  const float l2 = part.l2().scope() == L2::TOUCHED ? part.l2().weight() : 0;
  std::vector<float>& s = *slots;
  std::vector<float> g(dim);
  for (size_t i = 0; i < dim; ++i) {
    g[i] = o.has_sum() ? gradient[i] : gradient[i] * scale;
  }
  ReferenceClip(part.clip(), &g);
  for (size_t i = 0; i < dim; ++i) {
    if (l2 != 0) g[i] = g[i] + l2 * values[i];
  }
  float row_rate = 0;
  if (o.has_rowwise_adagrad()) {
    float lane[8] = {};
    for (size_t i = 0; i < dim; ++i) lane[i % 8] += g[i] * g[i];
    const float sum =
        ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    s[0] += sum * (1.0f / static_cast<float>(dim));
    row_rate = lr / (std::sqrt(s[0]) + o.rowwise_adagrad().epsilon());
  }
  AdamW adam = o.adamw();
  if (o.has_adam()) {
    adam.set_beta1(o.adam().beta1());
    adam.set_beta2(o.adam().beta2());
    adam.set_epsilon(o.adam().epsilon());
    adam.set_step(o.adam().step());
    adam.set_weight_decay(0);
  }
  const uint64_t step =
      adam.step() == Adam::GLOBAL ? static_cast<uint64_t>(clock) + 1 : uint64_t{applications} + 1;
  const double root = std::sqrt(1.0 - Power(adam.beta2(), step));
  const float adam_lr = lr * static_cast<float>(root / (1.0 - Power(adam.beta1(), step)));
  const float adam_epsilon = static_cast<float>(adam.epsilon() * root);
  for (size_t i = 0; i < dim; ++i) {
    float& w = values[i];
    switch (o.kind_case()) {
      case Optimizer::kSgd:
        w = w - lr * g[i];
        break;
      case Optimizer::kMomentum:
        s[i] = o.momentum().momentum() * s[i] + g[i];
        w = w - lr * (o.momentum().nesterov() ? g[i] + o.momentum().momentum() * s[i] : s[i]);
        break;
      case Optimizer::kAdagrad:
        s[i] = s[i] + g[i] * g[i];
        w = w - (lr * g[i]) / (std::sqrt(s[i]) + o.adagrad().epsilon());
        break;
      case Optimizer::kRowwiseAdagrad:
        w = w - row_rate * g[i];
        break;
      case Optimizer::kAdam:
      case Optimizer::kAdamw: {
        const float b1 = adam.beta1(), b2 = adam.beta2();
        if (o.has_adamw()) w = w * (1 - lr * adam.weight_decay());
        s[i] = b1 * s[i] + (1 - b1) * g[i];
        s[dim + i] = b2 * s[dim + i] + ((1 - b2) * g[i]) * g[i];
        w = w - (adam_lr * s[i]) / (std::sqrt(s[dim + i]) + adam_epsilon);
        break;
      }
      case Optimizer::kFtrl: {
        const float inverse_alpha = 1.0f / lr;
        const float n = s[dim + i] + g[i] * g[i];
        const float sigma = (std::sqrt(n) - std::sqrt(s[dim + i])) * inverse_alpha;
        s[i] = s[i] + (g[i] - sigma * w);
        s[dim + i] = n;
        const float z = s[i], l1 = o.ftrl().l1();
        w = std::fabs(z) <= l1
                ? 0.0f
                : ((z < 0 ? -l1 : l1) - z) /
                      ((o.ftrl().beta() + std::sqrt(n)) * inverse_alpha + o.ftrl().l2());
        break;
      }
      case Optimizer::kMovingAverage:
        w = o.moving_average().decay() * w + (1 - o.moving_average().decay()) * g[i];
        break;
      case Optimizer::kSum:
        w = w + g[i];
        break;
      case Optimizer::KIND_NOT_SET:
        break;
    }
  }
}

std::vector<float> ReferenceTable::Initial(Key key) const {
  std::vector<float> values;
  const uint64_t seed = Mix64(spec_.seed() ^ Mix64(key));
  for (const PartSpec& part : spec_.parts()) {
    for (uint32_t i = 0; i < part.dim(); ++i) {
      const uint64_t a = RandomBits(seed, 2 * values.size());
      const uint64_t b = RandomBits(seed, 2 * values.size() + 1);
      float value = 0;
      if (part.init().has_constant()) value = part.init().constant();
      if (part.init().has_normal()) value = static_cast<float>(part.init().normal() * ToNormal(a, b));
      if (part.init().has_uniform()) {
        value = static_cast<float>(part.init().uniform() * (2 * ToUnit(a) - 1));
      }
      values.push_back(part.dtype() == BFLOAT16 ? NearestBfloat16(value) : value);
    }
  }
  return values;
}

std::vector<float> ReferenceTable::Pull(Key key, Clock clock, float lr_scale) const {
  const auto found = rows_.find(key);
  if (found == rows_.end()) {
    std::vector<float> initial = Initial(key);
    const bool rule = spec_.admission().after() > 1 ||
                      (spec_.admission().has_probability() && spec_.admission().probability() < 1);
    for (float& value : initial) {
      if (rule && spec_.unadmitted() == ZERO) value = 0;
      if (rule && spec_.unadmitted() == FEATURE_OOV) value = std::numeric_limits<float>::quiet_NaN();
    }
    return initial;
  }
  std::vector<float> values = found->second.values;
  size_t at = 0;
  for (const PartSpec& part : spec_.parts()) {
    const float factor = DecayOver(part, lr_scale, clock - found->second.last_clock);
    for (uint32_t i = 0; i < part.dim(); ++i) values[at++] *= factor;
  }
  return values;
}

bool ReferenceTable::Admit(Key key, uint32_t samples, Clock clock, uint32_t* touches) {
  *touches = samples;
  if (spec_.admission().has_probability() && spec_.admission().probability() < 1) {
    const uint64_t seed = spec_.seed() ^ 0x6a09e667f3bcc909ull ^ Mix64(key);
    const double p = spec_.admission().probability();
    return ToUnit(RandomBits(seed, static_cast<uint64_t>(clock + 1))) < 1 - Power(1 - p, samples);
  }
  if (spec_.admission().has_after()) {
    *touches = (counters_[key] += samples);
    if (*touches < spec_.admission().after()) return false;
    counters_.erase(key);
  }
  return true;
}

void ReferenceTable::Push(Key key, const std::vector<float>& gradient, uint32_t samples, float scale,
                          float lr_scale, Clock clock) {
  uint32_t touches = 0;
  if (rows_.count(key) == 0) {
    if (!Admit(key, samples, clock, &touches)) return;
    ReferenceRow& row = rows_[key];
    row.values = Initial(key);
    row.first_clock = row.last_clock = clock;
    const float* values = row.values.data();
    for (const PartSpec& part : spec_.parts()) {
      row.slots.push_back(ReferenceSlots(part, values));
      values += part.dim();
    }
  } else {
    touches = rows_[key].touches + samples;
  }
  ReferenceRow& row = rows_[key];
  size_t at = 0;
  for (int p = 0; p < spec_.parts_size(); ++p) {
    const PartSpec& part = spec_.parts(p);
    const float factor = DecayOver(part, lr_scale, clock - row.last_clock);
    for (uint32_t i = 0; i < part.dim(); ++i) row.values[at + i] *= factor;
    ReferenceApply(part, row.values.data() + at, &row.slots[p], gradient.data() + at, scale, lr_scale,
                   row.applications, clock);
    for (uint32_t i = 0; i < part.dim() && part.dtype() == BFLOAT16 && !part.frozen(); ++i) {
      const uint64_t seed =
          RandomBits(spec_.seed() ^ 0x3c6ef372fe94f82bull ^ Mix64(key), row.applications);
      const uint32_t random = (RandomBits(seed, (at + i) / 4) >> (16 * ((at + i) % 4))) & 0xffff;
      row.values[at + i] = Truncated(std::bit_cast<uint32_t>(row.values[at + i]) + random);
    }
    at += part.dim();
  }
  row.touches = touches;
  ++row.applications;
  row.last_clock = std::max(row.last_clock, clock);
}

void ReferenceTable::Sweep(Clock clock) {
  const Eviction& rule = spec_.eviction();
  for (auto it = rows_.begin(); it != rows_.end();) {
    const ReferenceRow& row = it->second;
    const Clock age = clock - row.last_clock;
    const double lifetime = static_cast<double>(std::max<Clock>(clock - row.first_clock + 1, 1));
    const bool old = rule.max_age_clocks() > 0 && age > static_cast<Clock>(rule.max_age_clocks());
    const bool rare = row.touches < rule.min_touches_per_clock() * lifetime;
    it = old || rare ? rows_.erase(it) : std::next(it);
  }
  for (auto it = counters_.begin(); it != counters_.end();) {
    it->second /= 2;
    it = it->second == 0 ? counters_.erase(it) : std::next(it);
  }
}

}  // namespace tidegate::conformance
