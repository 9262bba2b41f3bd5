#pragma once
// What a push does to one part of a row: a PartSpec compiled to constants and one function pointer,
// so that a batch pays no virtual call and no branch on the kind of optimizer per key. Stateless:
// values and slots (the optimizer's state) live in the caller's row. Formulas and sources: README.md.
//
// Bits: each element is computed by the same IEEE operations in vector lanes and in the tail, with no
// fused multiply-add; sums over a row go by eight lanes (element i to lane i mod 8, in rising i),
// which are then added as ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)). So any instruction set gives the same bits.
//
// Thread-safe (const only).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/table.pb.h"

namespace tidegate {

// What all keys of one application share.
struct UpdateArguments {
  float scale = 1;     // gradients are multiplied by it: 1 / sum of sample weights. Not used by SUM
  float lr_scale = 1;  // the job's learning-rate scale (SetLearningRate), finite and >= 0
  Clock clock = 0;     // of the push; for a read: the clock that it is made for
};

class PartOptimizer {
 public:
  // INVALID_ARGUMENT names the part and the field: no optimizer (a frozen part needs none), a rate that is negative,
  // not finite or above 1e6, l2 or clip on MOVING_AVERAGE or SUM, l2 ALL_LAZY on FTRL.
  static absl::StatusOr<PartOptimizer> Create(const PartSpec& part);

  uint32_t dim() const { return constants_.dim; }
  // Floats of state per row.
  uint32_t slots() const { return slots_; }
  bool frozen() const { return kernel_ == nullptr; }
  // True when rows decay while untouched (L2 ALL_LAZY): a read must call DecayFactor.
  bool decays() const { return constants_.lazy_l2 > 0; }

  // State of a row whose values are the initialiser's.
  void InitializeSlots(const float* values, float* slots) const;

  // One for a batch: everything that does not depend on the row.
  struct Batch {
    float scale = 1;
    float lr = 0;          // rate * part scale * job scale (FTRL: alpha)
    float inverse_lr = 0;  // FTRL only: 1 / alpha
    float adam_lr = 0;     // Adam, AdamW with a GLOBAL step: corrected rate and epsilon
    float adam_epsilon = 0;
    double decay = 1;      // L2 ALL_LAZY: factor of one clock
    Clock clock = 0;
    bool idle = false;     // a rate of zero, or next to it, changes nothing where 1 / rate is needed
  };
  Batch Prepare(const UpdateArguments& arguments) const;

  // What a row last touched at `last` is multiplied by when it is touched or read at batch.clock;
  // exactly 1 when the part does not decay or the clock is not later.
  float DecayFactor(const Batch& batch, Clock last) const;

  // Applies one summed gradient of dim() float32 (little endian, any alignment). `applications`: how
  // many the row has had before; `last`: the clock of its last one. REQUIRES: !frozen().
  void Apply(const Batch& batch, float* values, float* slots, const std::byte* gradient,
             uint32_t applications, Clock last) const {
    if (decays()) CatchUp(batch, values, last);
    if (batch.idle) return;
    kernel_(constants_, batch, values, slots, gradient, applications);
  }

  struct AdamCorrection {
    float lr_factor;  // sqrt(1 - beta2^t) / (1 - beta1^t)
    float epsilon;    // epsilon * sqrt(1 - beta2^t)
  };
  struct Constants {
    uint32_t dim = 0;
    float l2 = 0;       // scope TOUCHED
    float lazy_l2 = 0;  // scope ALL_LAZY
    float lr = 0;       // rate * part scale
    float momentum = 0;
    float epsilon = 0;
    float beta1 = 0, beta2 = 0;
    float inverse_dim = 0;
    float ftrl_beta = 0, ftrl_l1 = 0, ftrl_l2 = 0;
    float decay = 0;
    float initial_accumulator = 0;
    float weight_decay = 0;               // AdamW
    float clip_value = 0, clip_norm = 0;  // 0: off
    bool global_step = false;
    // Corrections of steps 1 .. size; later steps are computed, by the same function.
    std::shared_ptr<const std::vector<AdamCorrection>> corrections;

    bool clips() const { return clip_value > 0 || clip_norm > 0; }
    AdamCorrection CorrectionOf(uint64_t step) const {
      return step <= corrections->size() ? (*corrections)[step - 1] : ComputeCorrection(step);
    }
    AdamCorrection ComputeCorrection(uint64_t step) const;
  };
  using Kernel = void (*)(const Constants&, const Batch&, float* values, float* slots,
                          const std::byte* gradient, uint32_t applications);

 private:
  // Constants, slots and kernel of the part's kind; what is out of range is noted in `check`.
  class RangeCheck;
  absl::Status ReadKind(const PartSpec& part, RangeCheck* check);
  template <typename AdamLike>
  void ReadAdam(const char* kind, const AdamLike& adam, RangeCheck* check);
  bool HasAdamSteps() const { return kind_ == Optimizer::kAdam || kind_ == Optimizer::kAdamw; }
  void CatchUp(const Batch& batch, float* values, Clock last) const;

  Optimizer::KindCase kind_ = Optimizer::KIND_NOT_SET;
  Constants constants_;
  uint32_t slots_ = 0;
  Kernel kernel_ = nullptr;
};

// base^exponent by repeated squaring: no libm, the same bits everywhere.
double PowerOf(double base, uint64_t exponent);

}  // namespace tidegate
