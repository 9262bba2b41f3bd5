#pragma once
// In-batch sampled softmax of two towers with a correction for how often an item is drawn (Yi et al. 2019,
// Sampling-bias-corrected neural modeling for large corpus item recommendations):
//   loss of a positive i = -log(exp(c[i, i]) / sum over j of exp(c[i, j]))
//   c[i, j] = query[i] . item[j] / temperature - log q[j]
// The candidates j are all rows of the batch (the drawn negatives among them) but those that hold i's item
// again. q[j] is the share of the batch's rows that hold j's item: a moving average of the counts in batches.
// Not thread-safe; deterministic given the order of the batches.

#include <cstdint>
#include <span>
#include <vector>

#include "common/types.h"
#include "worker/data/batch.h"
#include "worker/model/backend.h"
#include "worker/model/tensor.h"

namespace tidegate {

// Shares of keys in a stream of batches: q = (1 - kRate) q + kRate * count / rows, corrected for its start
// at 0 (as Adam's moments are). Memory is fixed: keys of one bucket share their estimate, so that q is too
// high for both.
class KeyFrequencies {
 public:
  static constexpr double kRate = 0.01;
  explicit KeyFrequencies(size_t buckets_log2 = 20);
  // One batch; each key counts as often as it stands there.
  void Count(std::span<const Key> keys);
  // Of a key that was counted at least once.
  double ShareOf(Key key) const;

 private:
  struct Bucket {
    float share = 0;      // as of `batch`, without the correction
    uint32_t batch = 0;
  };
  double Decayed(const Bucket& bucket) const;
  size_t IndexOf(Key key) const;

  std::vector<Bucket> buckets_;
  uint32_t batch_ = 0;
};

class InBatchSoftmax {
 public:
  struct Options {
    float temperature = 1;
    bool cosine = false;  // rows of both sides are divided by their L2 norms first
    float task_weight = 1;
  };
  struct Batch {
    size_t rows;
    uint32_t dim;
    const float* query;              // [rows, dim]
    const float* item;               // [rows, dim]
    std::span<const float> labels;   // above 0: a positive; NaN: no candidate either
    std::span<const float> weights;  // empty: all 1
    const FeatureColumn* items;      // one key a row; a row without one is no candidate
    float* d_query;                  // added to; null: nobody asks
    float* d_item;
  };
  InBatchSoftmax(const Options& options, Backend* backend) : options_(options), backend_(backend) {}

  // Counts the batch's items, and returns the sum of task_weight * weight * loss.
  double Run(const Batch& batch);

 private:
  struct Side {
    FloatBuffer unit, inverse_norm;  // cosine
    FloatBuffer gradient;
    const float* value = nullptr;
  };
  void CountItems(const Batch& batch);
  void Prepare(const float* from, const Batch& batch, Side* side) const;
  // Logits of queries [first, first + count) become the loss's gradient by them.
  double Normalise(const Batch& batch, size_t first, size_t count, float* logits) const;
  void AddGradient(const Batch& batch, Side* side, float* to) const;

  const Options options_;
  Backend* const backend_;
  KeyFrequencies frequencies_;
  Side query_, item_;
  std::vector<Key> keys_;           // of the rows that are candidates, in order
  std::vector<Key> row_key_;        // [rows]
  std::vector<uint8_t> candidate_;  // [rows]
  std::vector<float> correction_;   // [rows]: -log q
  FloatBuffer logits_;
};

}  // namespace tidegate
