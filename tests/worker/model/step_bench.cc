// CPU time of a DeepFM training step (10 fields, dim 16, mlp 400-400-400, batch 4096) beside that of
// its matrix products alone, measured in turns.
#include <ctime>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/job_config/job_config.h"
#include "common/random.h"
#include "worker/model/backend.h"
#include "worker/model/model.h"

namespace tidegate {
namespace {

constexpr size_t kRows = 4096;
constexpr int kRounds = 9;

double CpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

JobConfig Config(const std::string& norm) {
  auto config = ParseJobConfig(
      absl::StrCat(R"(data { format: LIBSVM train { files: "/none" } }
      feature { name: "f{1..10}" column: "#{1..10}" table: "emb" }
      table { name: "emb" part { name: "w" dim: 1 adam {} } part { name: "v" dim: 16 adam {} } }
      model { preset { kind: DEEPFM wide: "emb.w" deep: "emb.v" units: [400, 400, 400] )", norm, "} }"),
      "bench");
  return *config;
}

void FillStep(const Model& model, Step* step) {
  Random random(1);
  Batch& b = step->batch;
  b.rows = kRows;
  b.features.resize(10);
  b.labels.resize(1);
  for (FeatureColumn& f : b.features) {
    for (size_t r = 0; r <= kRows; ++r) f.offsets.push_back(static_cast<uint32_t>(r));
    for (size_t r = 0; r < kRows; ++r) f.keys.push_back(random.Below(1000));
  }
  for (size_t r = 0; r < kRows; ++r) {
    b.labels[0].push_back(static_cast<float>(random.Below(2)));
    b.sample_id.push_back(r);
  }
  model.Gather(step);
  for (size_t t = 0; t < step->tables.size(); ++t) {
    TableStep& table = step->tables[t];
    table.rows.resize(table.keys.size() * model.row_widths()[t]);
    for (float& x : table.rows) x = static_cast<float>(.1 * random.Unit());
  }
}

void Products(Backend* backend, std::vector<float>* buffers) {
  const int64_t widths[] = {160, 400, 400, 400, 1};
  const auto rows = static_cast<int64_t>(kRows);
  float* x = buffers[0].data();
  float* y = buffers[1].data();
  float* w = buffers[2].data();
  for (int i = 0; i < 4; ++i) {
    backend->Gemm(Op::kPlain, Op::kPlain, rows, widths[i + 1], widths[i], x, w, 0, y);
    backend->Gemm(Op::kTransposed, Op::kPlain, widths[i], widths[i + 1], rows, x, y, 0, w);
    backend->Gemm(Op::kPlain, Op::kTransposed, rows, widths[i], widths[i + 1], y, w, 0, x);
  }
}

int Run() {
  auto backend = MakeCpuBackend();
  for (const char* norm : {"", "dropout: .2", "norm: BATCH", "norm: BATCH dropout: .2"}) {
    auto model = Model::Create(Config(norm));
    Step step;
    FillStep(**model, &step);
    std::vector<float> buffers[3] = {std::vector<float>(kRows * 400), std::vector<float>(kRows * 400),
                                     std::vector<float>(400 * 400)};
    std::vector<double> train, products;
    for (int i = 0; i < kRounds; ++i) {
      double start = CpuSeconds();
      if (!(*model)->Train(&step).ok()) return 1;
      train.push_back(CpuSeconds() - start);
      start = CpuSeconds();
      Products(backend.get(), buffers);
      products.push_back(CpuSeconds() - start);
    }
    std::sort(train.begin(), train.end());
    std::sort(products.begin(), products.end());
    std::printf("mlp { %s }: step %.1f ms, products %.1f ms, ratio %.2f\n", norm, 1e3 * train[kRounds / 2],
                1e3 * products[kRounds / 2], train[kRounds / 2] / products[kRounds / 2]);
  }
  return 0;
}

}  // namespace
}  // namespace tidegate

int main() { return tidegate::Run(); }
