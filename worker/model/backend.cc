#include "worker/model/backend.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <atomic>

#include "common/logging.h"

namespace tidegate {
namespace {

std::atomic<int> compute_threads{1};

// OpenMP keeps the number per calling thread, and a new thread begins with all cores.
void ApplyComputeThreads() {
  thread_local int applied = 0;
  const int wanted = compute_threads.load(std::memory_order_relaxed);
  if (applied == wanted) return;
  omp_set_num_threads(wanted);
  applied = wanted;
}

class CpuBackend final : public Backend {
 public:
  void Gemm(Op op_a, Op op_b, int64_t m, int64_t n, int64_t k, const float* a, const float* b,
            float beta, float* c) override {
    if (m == 0 || n == 0) return;
    if (k == 0) {
      for (int64_t i = 0; i < m * n; ++i) c[i] = beta == 0 ? 0 : beta * c[i];
      return;
    }
    ApplyComputeThreads();
    const bool ta = op_a == Op::kTransposed;
    const bool tb = op_b == Op::kTransposed;
    const dnnl_status_t status = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1.0f, a,
                                            ta ? m : k, b, tb ? k : n, beta, c, n);
    TG_CHECK(status == dnnl_success) << "sgemm " << m << " x " << n << " x " << k << ": " << status;
  }
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend() { return std::make_unique<CpuBackend>(); }

void SetComputeThreads(int threads) {
  compute_threads.store(threads < 1 ? 1 : threads, std::memory_order_relaxed);
}

}  // namespace tidegate
