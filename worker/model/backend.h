#pragma once
// What a block asks of the device it computes on. One implementation now: the CPU by oneDNN. Not
// thread-safe; results depend on the number of compute threads, not on timing.

#include <cstdint>
#include <memory>

namespace tidegate {

enum class Op { kPlain, kTransposed };

class Backend {
 public:
  virtual ~Backend() = default;
  // c[m, n] = op(a)[m, k] op(b)[k, n] + beta c; row major, without gaps, no aliasing.
  virtual void Gemm(Op op_a, Op op_b, int64_t m, int64_t n, int64_t k, const float* a,
                    const float* b, float beta, float* c) = 0;
};

std::unique_ptr<Backend> MakeCpuBackend();

// Threads that one Gemm may use (>= 1; default 1), for every thread of the process. Set it once, in
// main, before a model runs.
void SetComputeThreads(int threads);

}  // namespace tidegate
