#include "worker/model/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/random.h"

namespace tidegate {
namespace {

constexpr size_t kChunkRows = 64;

// Calls add(row, accumulator) for each row of a chunk, and adds the chunk's sums to `out` in double.
template <typename Add>
void ChunkedColumnSums(size_t rows, size_t columns, double* out, Add add) {
  thread_local std::vector<float> chunk;
  std::fill(out, out + columns, 0.0);
  for (size_t begin = 0; begin < rows; begin += kChunkRows) {
    chunk.assign(columns, 0.0f);
    const size_t end = std::min(rows, begin + kChunkRows);
    for (size_t r = begin; r < end; ++r) add(r, chunk.data());
    for (size_t c = 0; c < columns; ++c) out[c] += static_cast<double>(chunk[c]);
  }
}

double* Scratch(size_t count, int which) {
  thread_local std::vector<double> scratch[2];
  scratch[which].resize(count);
  return scratch[which].data();
}

}  // namespace

void ColumnSums(const float* x, size_t rows, size_t columns, float* out) {
  double* sums = Scratch(columns, 0);
  ChunkedColumnSums(rows, columns, sums, [&](size_t r, float* acc) {
    const float* row = x + r * columns;
    for (size_t c = 0; c < columns; ++c) acc[c] += row[c];
  });
  for (size_t c = 0; c < columns; ++c) out[c] = static_cast<float>(sums[c]);
}

float DotProduct(const float* __restrict a, const float* __restrict b, size_t count) {
  float lanes[8] = {};
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (size_t l = 0; l < 8; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  float rest = 0;
  for (; i < count; ++i) rest += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7])) + rest;
}

void AddTo(const float* __restrict x, size_t count, float* __restrict y) {
  for (size_t i = 0; i < count; ++i) y[i] += x[i];
}

void CopyColumns(const float* x, size_t rows, size_t columns, float* y, size_t y_columns,
                 size_t y_offset) {
  for (size_t r = 0; r < rows; ++r) {
    std::copy_n(x + r * columns, columns, y + r * y_columns + y_offset);
  }
}

void AddColumns(const float* x, size_t rows, size_t x_columns, size_t x_offset, float* y,
                size_t columns) {
  for (size_t r = 0; r < rows; ++r) {
    const float* __restrict from = x + r * x_columns + x_offset;
    float* __restrict to = y + r * columns;
    for (size_t c = 0; c < columns; ++c) to[c] += from[c];
  }
}

Dropout::Dropout(float probability, uint64_t layer_salt)
    : threshold_(static_cast<uint32_t>(std::lround(probability * 65536.0))),
      scale_(static_cast<float>(65536.0 / (65536.0 - std::min<uint32_t>(threshold_, 65535)))),
      layer_salt_(layer_salt) {
  threshold_ = std::min<uint32_t>(threshold_, 65535);
}

void Dropout::Apply(uint64_t seed, std::span<const uint64_t> sample_ids, size_t columns,
                    float* x) const {
  thread_local std::vector<uint16_t> draws;  // four to a word of the generator
  const size_t words = (columns + 3) / 4;
  draws.resize(4 * words);
  const uint64_t layer_seed = Mix64(seed ^ layer_salt_);
  for (size_t r = 0; r < sample_ids.size(); ++r) {
    const uint64_t row_seed = Mix64(layer_seed ^ Mix64(sample_ids[r]));
    for (size_t w = 0; w < words; ++w) {
      const uint64_t word = Mix64(row_seed + w * 0x9e3779b97f4a7c15ull);
      std::memcpy(draws.data() + 4 * w, &word, sizeof(word));
    }
    const uint16_t* draw = draws.data();
    float* __restrict row = x + r * columns;
    const uint32_t threshold = threshold_;
    const float scale = scale_;
    // A factor, not a branch: so the loop vectorises.
    for (size_t c = 0; c < columns; ++c) row[c] *= draw[c] < threshold ? 0.0f : scale;
  }
}

void BiasActivate(Activation activation, const float* bias, size_t rows, size_t columns, float* x) {
  for (size_t r = 0; r < rows; ++r) {
    float* __restrict row = x + r * columns;
    if (bias != nullptr) {
      for (size_t c = 0; c < columns; ++c) row[c] += bias[c];
    }
    switch (activation) {
      case RELU:
        for (size_t c = 0; c < columns; ++c) row[c] = row[c] < 0 ? 0.0f : row[c];  // keeps NaN
        break;
      case TANH:
        for (size_t c = 0; c < columns; ++c) row[c] = std::tanh(row[c]);
        break;
      case SIGMOID:
        for (size_t c = 0; c < columns; ++c) row[c] = 1.0f / (1.0f + std::exp(-row[c]));
        break;
      case IDENTITY: break;
    }
  }
}

void ActivateBackward(Activation activation, const float* __restrict y, float scale, size_t count,
                      float* __restrict d) {
  switch (activation) {
    case RELU:
      for (size_t i = 0; i < count; ++i) d[i] *= y[i] > 0 ? scale : 0.0f;
      break;
    case TANH:
      for (size_t i = 0; i < count; ++i) d[i] *= 1.0f - y[i] * y[i];
      break;
    case SIGMOID:
      for (size_t i = 0; i < count; ++i) d[i] *= y[i] * (1.0f - y[i]);
      break;
    case IDENTITY: break;
  }
}

void BatchMoments(const float* z, size_t rows, size_t columns, float* mean, float* variance) {
  double* sums = Scratch(columns, 0);
  const double n = static_cast<double>(std::max<size_t>(rows, 1));
  ChunkedColumnSums(rows, columns, sums, [&](size_t r, float* acc) {
    const float* row = z + r * columns;
    for (size_t c = 0; c < columns; ++c) acc[c] += row[c];
  });
  for (size_t c = 0; c < columns; ++c) mean[c] = static_cast<float>(sums[c] / n);
  ChunkedColumnSums(rows, columns, sums, [&](size_t r, float* acc) {
    const float* row = z + r * columns;
    for (size_t c = 0; c < columns; ++c) {
      const float delta = row[c] - mean[c];
      acc[c] += delta * delta;
    }
  });
  for (size_t c = 0; c < columns; ++c) variance[c] = static_cast<float>(sums[c] / n);
}

void BatchNormForward(const BatchNormView& v, float* out) {
  for (size_t r = 0; r < v.rows; ++r) {
    const float* z = v.z + r * v.columns;
    float* __restrict y = out + r * v.columns;
    for (size_t c = 0; c < v.columns; ++c) {
      y[c] = (z[c] - v.mean[c]) * v.scale[c] * v.gamma[c] + v.beta[c];
    }
  }
}

void BatchNormBackward(const BatchNormView& v, Activation activation, const float* y, float scale,
                       float* d, float* d_gamma, float* d_beta) {
  const size_t n = v.columns;
  double* beta_sums = Scratch(n, 0);
  double* gamma_sums = Scratch(n, 1);
  thread_local std::vector<float> beta_chunk;
  std::fill(beta_sums, beta_sums + n, 0.0);
  beta_chunk.assign(n, 0.0f);
  ChunkedColumnSums(v.rows, n, gamma_sums, [&](size_t r, float* acc) {
    float* dr = d + r * n;
    ActivateBackward(activation, y + r * n, scale, n, dr);
    const float* z = v.z + r * n;
    float* beta = beta_chunk.data();
    for (size_t c = 0; c < n; ++c) {
      beta[c] += dr[c];
      acc[c] += dr[c] * ((z[c] - v.mean[c]) * v.scale[c]);
    }
    if ((r + 1) % kChunkRows != 0 && r + 1 != v.rows) return;
    for (size_t c = 0; c < n; ++c) {
      beta_sums[c] += static_cast<double>(beta[c]);
      beta[c] = 0;
    }
  });
  for (size_t c = 0; c < n; ++c) {
    d_gamma[c] = static_cast<float>(gamma_sums[c]);
    d_beta[c] = static_cast<float>(beta_sums[c]);
  }
  const float inverse = 1.0f / static_cast<float>(std::max<size_t>(v.rows, 1));
  for (size_t r = 0; r < v.rows; ++r) {
    const float* z = v.z + r * n;
    float* dr = d + r * n;
    for (size_t c = 0; c < n; ++c) {
      const float normal = (z[c] - v.mean[c]) * v.scale[c];
      dr[c] = v.gamma[c] * v.scale[c] *
              (dr[c] - inverse * (d_beta[c] + normal * d_gamma[c]));
    }
  }
}

}  // namespace tidegate
