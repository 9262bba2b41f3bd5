#include "cli/bench_train.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/json.h"
#include "cli/local_run.h"
#include "common/job_config/job_config.h"
#include "worker/model/backend.h"
#include "worker/model/model.h"

namespace tidegate::cli {
namespace {

constexpr int kWorkers = 2;

// 10 categorical fields of dim 16 into 400-400-400: the shape of the Frappe recipes.
constexpr char kConfig[] = R"(name: "bench-train"
seed: 1
data {
  format: GENERATED
  generator { seed: 1 cardinality: [1000000, 100000, 50000, 10000, 5000, 1000, 500, 100, 50, 10] numeric_fields: 0 }
  train { rows: %ROWS% }
}
feature { name: "C{1..10}" id { } table: "emb" }
table {
  name: "emb"
  part { name: "w" dim: 1 adagrad { lr: 0.01 } }
  part { name: "v" dim: 16 init { normal: 0.01 } adagrad { lr: 0.01 } }
}
dense { adam { lr: 0.001 } }
model {
  preset { kind: DEEPFM wide: "emb.w" deep: "emb.v" units: [400, 400, 400] }
  task { name: "click" label: "label" loss: BCE }
}
train { global_batch: 4096 epochs: 1 staleness: "4" }
)";

struct Product {
  int64_t inputs;
  int64_t outputs;
};

std::vector<Product> WeightMatrices(const Model& model) {
  std::vector<Product> products;
  for (const TableSpec& table : model.tables()) {
    if (table.kind() == TableSpec::DENSE && table.shape_size() == 2) {
      products.push_back({static_cast<int64_t>(table.shape(0)), static_cast<int64_t>(table.shape(1))});
    }
  }
  return products;
}

void RunProducts(const std::vector<Product>& products, int64_t batch, const std::atomic<bool>& stop,
                 std::atomic<int64_t>* samples) {
  int64_t widest = 0;
  int64_t largest = 0;
  for (const Product& p : products) {
    widest = std::max({widest, p.inputs, p.outputs});
    largest = std::max(largest, p.inputs * p.outputs);
  }
  std::vector<float> in(batch * widest, 0.5f);
  std::vector<float> out(batch * widest, 0.25f);
  std::vector<float> weights(largest, 0.01f);
  const std::unique_ptr<Backend> backend = MakeCpuBackend();
  while (!stop) {
    for (const Product& p : products) {
      backend->Gemm(Op::kPlain, Op::kPlain, batch, p.outputs, p.inputs, in.data(), weights.data(), 0, out.data());
      backend->Gemm(Op::kPlain, Op::kTransposed, batch, p.inputs, p.outputs, out.data(), weights.data(), 0, in.data());
      backend->Gemm(Op::kTransposed, Op::kPlain, p.inputs, p.outputs, batch, in.data(), out.data(), 0, weights.data());
      // Products of products grow: keep the numbers ordinary.
      in[0] = 0.5f;
    }
    std::fill(in.begin(), in.end(), 0.5f);
    std::fill(weights.begin(), weights.end(), 0.01f);
    *samples += batch;
  }
}

double ChildrenCpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

}  // namespace

absl::StatusOr<double> GemmCeiling(const JobConfig& config, size_t batch, int threads, double seconds) {
  auto model = Model::Create(config);
  if (!model.ok()) return model.status();
  const std::vector<Product> products = WeightMatrices(**model);
  if (products.empty()) return absl::InvalidArgumentError("the model has no matrix product");
  SetComputeThreads(1);
  std::atomic<bool> stop{false};
  std::atomic<int64_t> samples{0};
  std::vector<std::thread> workers;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] { RunProducts(products, static_cast<int64_t>(batch), stop, &samples); });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  stop = true;
  for (std::thread& worker : workers) worker.join();
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return static_cast<double>(samples.load()) / elapsed;
}

absl::Status BenchTrain(const BenchTrainOptions& options, const std::function<void(const BenchFigure&)>& report) {
  const uint64_t rows = options.quick ? 400'000 : 3'000'000;
  std::error_code error;
  std::filesystem::create_directories(options.run_dir, error);
  const std::string path = options.run_dir + "/bench.textproto";
  std::string text = kConfig;
  text.replace(text.find("%ROWS%"), 6, std::to_string(rows));
  std::ofstream(path) << text;

  LocalRunOptions run_options;
  run_options.config = path;
  run_options.servers = 1;
  run_options.workers = kWorkers;
  run_options.bin_dir = options.bin_dir;
  run_options.run_dir = options.run_dir;
  run_options.verbosity = Verbosity::kQuiet;
  run_options.show_progress = false;
  run_options.time_limit_s = options.quick ? 300 : 1800;
  auto config = LoadJobConfig(path);
  if (!config.ok()) return config.status();
  // The machine may be busy with other things for a while: the better of before and after is the ceiling.
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const size_t batch = config->train().global_batch() / kWorkers;
  const double seconds = options.quick ? 1.5 : 4;
  auto before = GemmCeiling(*config, batch, cores, seconds);
  if (!before.ok()) return before.status();
  const double cpu_before = ChildrenCpuSeconds();
  LocalRun run;
  if (absl::Status s = RunLocalJob(run_options, &run); !s.ok()) return s;
  if (run.exit_status != 0) return absl::InternalError(absl::StrCat("the job failed; its logs are in ", options.run_dir, "/logs"));
  const double cpu = ChildrenCpuSeconds() - cpu_before;
  auto summary = ParseJson(run.summary);
  if (!summary.ok()) return summary.status();

  auto after = GemmCeiling(*config, batch, cores, seconds);
  if (!after.ok()) return after.status();
  BenchFigure figure;
  figure.name = "train/deepfm_10x16_400x3";
  figure.value = NumberField(*summary, "samples_per_second", 0);
  figure.unit = "samples/s";
  figure.ceiling = std::max(*before, *after);
  figure.cpu_us_per_unit = cpu * 1e6 / std::max(1.0, NumberField(*summary, "samples", 0));
  report(figure);
  return absl::OkStatus();
}

}  // namespace tidegate::cli
