#pragma once
// The update rules, each an operation on one vector or one element of a row (README.md has the
// formulas), and the loops that run them. Private to the optimizer.

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "server/optimizer/optimizer.h"
#include "server/optimizer/vector8.h"

namespace tidegate::kernels {

using vector8::Float8;
using vector8::Load;
using vector8::Store;
using Batch = PartOptimizer::Batch;
using Constants = PartOptimizer::Constants;

// What an update leaves behind is finite, whatever the pushes were (README.md, "Rows stay finite").
inline constexpr float kValueMax = 1e24f;
inline constexpr float kSlotMax = 1e37f;
inline constexpr float kDecayedGradientMax = 1e24f;  // with its L2

template <typename V>
inline V StoreWithin(float* at, float bound, V value) {
  const V within = vector8::Clamp(value, bound);
  Store<V>(at, within);
  return within;
}

struct SgdRule {
  static constexpr uint32_t kSlots = 0;
  float lr;
  SgdRule(const Constants&, const Batch& b, uint32_t) : lr(b.lr) {}
  template <typename V>
  void Update(V g, V w, float* value, float*, size_t) const {
    StoreWithin<V>(value, kValueMax, w - lr * g);
  }
};

struct MomentumRule {
  static constexpr uint32_t kSlots = 1;
  float lr, momentum;
  MomentumRule(const Constants& c, const Batch& b, uint32_t) : lr(b.lr), momentum(c.momentum) {}
  template <typename V>
  void Update(V g, V w, float* value, float* slot, size_t) const {
    const V m = StoreWithin<V>(slot, kSlotMax, momentum * Load<V>(slot) + g);
    StoreWithin<V>(value, kValueMax, w - lr * m);
  }
};

struct NesterovRule {
  static constexpr uint32_t kSlots = 1;
  float lr, momentum;
  NesterovRule(const Constants& c, const Batch& b, uint32_t) : lr(b.lr), momentum(c.momentum) {}
  template <typename V>
  void Update(V g, V w, float* value, float* slot, size_t) const {
    const V m = StoreWithin<V>(slot, kSlotMax, momentum * Load<V>(slot) + g);
    StoreWithin<V>(value, kValueMax, w - lr * (g + momentum * m));
  }
};

struct AdaGradRule {
  static constexpr uint32_t kSlots = 1;
  float lr, epsilon;
  AdaGradRule(const Constants& c, const Batch& b, uint32_t) : lr(b.lr), epsilon(c.epsilon) {}
  template <typename V>
  void Update(V g, V w, float* value, float* slot, size_t) const {
    const V a = StoreWithin<V>(slot, kSlotMax, Load<V>(slot) + g * g);
    StoreWithin<V>(value, kValueMax, w - (lr * g) / (vector8::Sqrt(a) + epsilon));
  }
};

struct AdamRule {
  static constexpr uint32_t kSlots = 2;
  float beta1, one_minus_beta1, beta2, one_minus_beta2, lr, epsilon;
  AdamRule(const Constants& c, const Batch& b, uint32_t applications)
      : beta1(c.beta1), one_minus_beta1(1 - c.beta1), beta2(c.beta2), one_minus_beta2(1 - c.beta2) {
    if (c.global_step) {
      lr = b.adam_lr;
      epsilon = b.adam_epsilon;
    } else {
      const PartOptimizer::AdamCorrection correction = c.CorrectionOf(uint64_t{applications} + 1);
      lr = b.lr * correction.lr_factor;
      epsilon = correction.epsilon;
    }
  }
  template <typename V>
  void Update(V g, V w, float* value, float* slot, size_t dim) const {
    const V m = StoreWithin<V>(slot, kSlotMax, beta1 * Load<V>(slot) + one_minus_beta1 * g);
    const V v = StoreWithin<V>(slot + dim, kSlotMax, beta2 * Load<V>(slot + dim) + (one_minus_beta2 * g) * g);
    StoreWithin<V>(value, kValueMax, w - (lr * m) / (vector8::Sqrt(v) + epsilon));
  }
};

struct AdamWRule : AdamRule {
  float keep;
  AdamWRule(const Constants& c, const Batch& b, uint32_t applications)
      : AdamRule(c, b, applications), keep(1 - b.lr * c.weight_decay) {}
  template <typename V>
  void Update(V g, V w, float* value, float* slot, size_t dim) const {
    AdamRule::Update<V>(g, vector8::Clamp(w * keep, kSlotMax), value, slot, dim);
  }
};

struct FtrlRule {
  static constexpr uint32_t kSlots = 2;
  float inverse_alpha, beta, l1, l2;
  FtrlRule(const Constants& c, const Batch& b, uint32_t)
      : inverse_alpha(b.inverse_lr), beta(c.ftrl_beta), l1(c.ftrl_l1), l2(c.ftrl_l2) {}
  template <typename V>
  void Update(V g, V w, float* value, float* slot, size_t dim) const {
    const V n_before = Load<V>(slot + dim);
    const V n = StoreWithin<V>(slot + dim, kSlotMax, n_before + g * g);
    const V root = vector8::Sqrt(n);
    const V sigma = (root - vector8::Sqrt(n_before)) * inverse_alpha;
    const V z = StoreWithin<V>(slot, kSlotMax, Load<V>(slot) + (g - sigma * w));
    const V moved = (vector8::WithSign(l1, z) - z) / ((beta + root) * inverse_alpha + l2);
    StoreWithin<V>(value, kValueMax, vector8::ZeroWithin(z, l1, moved));
  }
};

struct MovingAverageRule {
  static constexpr uint32_t kSlots = 0;
  float decay, one_minus_decay;
  MovingAverageRule(const Constants& c, const Batch&, uint32_t)
      : decay(c.decay), one_minus_decay(1 - c.decay) {}
  template <typename V>
  void Update(V g, V w, float* value, float*, size_t) const {
    StoreWithin<V>(value, kValueMax, decay * w + one_minus_decay * g);
  }
};

struct SumRule {
  static constexpr uint32_t kSlots = 0;
  SumRule(const Constants&, const Batch&, uint32_t) {}
  template <typename V>
  void Update(V g, V w, float* value, float*, size_t) const {
    StoreWithin<V>(value, kValueMax, w + g);
  }
};

// How a pushed sum becomes the gradient that a rule takes, but for L2.
struct PlainGradient {
  float scale;
  PlainGradient(const Constants&, const Batch& b, const std::byte*) : scale(b.scale) {}
  template <typename V>
  V At(const std::byte* gradient, size_t i) const {
    return Load<V>(gradient + 4 * i) * scale;
  }
};

// By value, then by norm. The norm is summed in double: no gradient overflows it.
struct ClippedGradient {
  float scale, bound, factor = 1;
  ClippedGradient(const Constants& c, const Batch& b, const std::byte* gradient)
      : scale(b.scale), bound(c.clip_value) {
    if (!(c.clip_norm > 0)) return;
    double lanes[8] = {};
    for (size_t i = 0; i < c.dim; ++i) {
      const double g = Bounded<float>(gradient, i);
      lanes[i % 8] += g * g;
    }
    const double sum =
        ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    const double norm = std::sqrt(sum);
    if (norm > c.clip_norm) factor = static_cast<float>(c.clip_norm / norm);
  }
  template <typename V>
  V Bounded(const std::byte* gradient, size_t i) const {
    const V g = Load<V>(gradient + 4 * i) * scale;
    return bound > 0 ? vector8::Clamp(g, bound) : g;
  }
  template <typename V>
  V At(const std::byte* gradient, size_t i) const {
    return Bounded<V>(gradient, i) * factor;
  }
};

template <typename Rule, typename V, typename Gradient>
inline void RunElements(const Rule& rule, const Gradient& gradient_of, float l2, float* values,
                        float* slots, const std::byte* gradient, size_t i, size_t dim) {
  const V w = Load<V>(values + i);
  V g = gradient_of.template At<V>(gradient, i);
  if (l2 != 0) g = vector8::Clamp(g + l2 * w, kDecayedGradientMax);
  rule.template Update<V>(g, w, values + i, slots + i, dim);
}

// kVectors: dim / 8 where known at compile time, else 0.
template <typename Rule, size_t kVectors, typename Gradient = PlainGradient>
void Run(const Constants& c, const Batch& b, float* values, float* slots, const std::byte* gradient,
         uint32_t applications) {
  const Rule rule(c, b, applications);
  const Gradient gradient_of(c, b, gradient);
  const size_t dim = kVectors > 0 ? kVectors * 8 : c.dim;
  size_t i = 0;
  for (; i + 8 <= dim; i += 8) {
    RunElements<Rule, Float8>(rule, gradient_of, c.l2, values, slots, gradient, i, dim);
  }
  if constexpr (kVectors == 0) {
    for (; i < dim; ++i) {
      RunElements<Rule, float>(rule, gradient_of, c.l2, values, slots, gradient, i, dim);
    }
  }
}

// Row-wise AdaGrad: one accumulator, so the row's squares are summed first.
template <size_t kVectors, typename Gradient = PlainGradient>
void RunRowWiseAdaGrad(const Constants& c, const Batch& b, float* values, float* slots,
                       const std::byte* gradient, uint32_t) {
  const size_t dim = kVectors > 0 ? kVectors * 8 : c.dim;
  const Gradient gradient_of(c, b, gradient);
  const auto gradient_at = [&]<typename V>(size_t i, V w) {
    V g = gradient_of.template At<V>(gradient, i);
    if (c.l2 != 0) g = vector8::Clamp(g + c.l2 * w, kDecayedGradientMax);
    return g;
  };
  Float8 lanes = {};
  size_t i = 0;
  for (; i + 8 <= dim; i += 8) {
    const Float8 g = gradient_at(i, Load<Float8>(values + i));
    lanes += g * g;
  }
  if constexpr (kVectors == 0) {
    for (size_t tail = i; tail < dim; ++tail) {
      const float g = gradient_at(tail, values[tail]);
      lanes[tail - i] += g * g;
    }
  }
  const float accumulator = StoreWithin<float>(slots, kSlotMax, slots[0] + vector8::AddLanes(lanes) * c.inverse_dim);
  const float rate = b.lr / (vector8::Sqrt(accumulator) + c.epsilon);
  for (i = 0; i + 8 <= dim; i += 8) {
    const Float8 w = Load<Float8>(values + i);
    StoreWithin<Float8>(values + i, kValueMax, w - rate * gradient_at(i, w));
  }
  if constexpr (kVectors == 0) {
    for (; i < dim; ++i) StoreWithin<float>(values + i, kValueMax, values[i] - rate * gradient_at(i, values[i]));
  }
}

// Where gradients are clipped, one loop for every width.
template <typename Rule>
PartOptimizer::Kernel Choose(const Constants& c) {
  if (c.clips()) return Run<Rule, 0, ClippedGradient>;
  switch (c.dim) {
    case 8: return Run<Rule, 1>;
    case 16: return Run<Rule, 2>;
    case 32: return Run<Rule, 4>;
    case 64: return Run<Rule, 8>;
    default: return Run<Rule, 0>;
  }
}
inline PartOptimizer::Kernel ChooseRowWiseAdaGrad(const Constants& c) {
  if (c.clips()) return RunRowWiseAdaGrad<0, ClippedGradient>;
  switch (c.dim) {
    case 8: return RunRowWiseAdaGrad<1>;
    case 16: return RunRowWiseAdaGrad<2>;
    case 32: return RunRowWiseAdaGrad<4>;
    case 64: return RunRowWiseAdaGrad<8>;
    default: return RunRowWiseAdaGrad<0>;
  }
}

}  // namespace tidegate::kernels
