#include "worker/client/wire_bench.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/malloc_tuning.h"
#include "common/random.h"
#include "worker/client/bench_load.h"
#include "worker/client/raw_tcp.h"

namespace tidegate {
namespace {

constexpr int kBatches = 256;  // 2 M keys: their rows are beyond any cache
constexpr size_t kSmallMessageBytes = 64;
constexpr uint32_t kDenseBlock = 4096;
constexpr uint32_t kDenseBlocks = 64;  // 1 MiB

struct Shape {
  const char* name;
  TableId table;
  uint32_t width;
  uint64_t keys;
};

TableSpec DenseSpec(TableId id) {
  TableSpec spec = BenchTable(id, "dense", kDenseBlock);
  spec.set_kind(TableSpec::DENSE);
  spec.add_shape(kDenseBlock * kDenseBlocks);
  return spec;
}

class Bench {
 public:
  Bench(const WireBenchOptions& options, const std::function<void(const WireFigure&)>& report)
      : options_(options), report_(report) {}

  absl::Status Run() {
    if (absl::Status s = Join(); !s.ok()) return s;
    absl::Status status;
    const Shape shapes[] = {{"16", 0, 16, options_.keys}, {"64", 1, 64, options_.keys / 4}};
    for (const Shape& shape : shapes) {
      if (!Wanted(PullName(shape)) && !Wanted(PushName(shape))) continue;
      status.Update(Sparse(shape));
      if (!status.ok()) break;
    }
    if (status.ok()) status = Dense();
    worker_->Leave();
    return status;
  }

 private:
  static std::string PullName(const Shape& shape) { return absl::StrCat("wire/sparse_pull_", shape.name); }
  static std::string PushName(const Shape& shape) { return absl::StrCat("wire/sparse_push_", shape.name); }
  bool Wanted(const std::string& name) const { return name.find(options_.only) != std::string::npos; }

  absl::Status Join() {
    auto clock = CpuClockOf(options_.server_pid);
    if (!clock.ok()) return clock.status();
    server_clock_ = *clock;
    auto worker = BenchWorker::Join(options_.scheduler, {BenchTable(0, "rows16", 16), BenchTable(1, "rows64", 64), DenseSpec(2)});
    if (!worker.ok()) return worker.status();
    worker_ = *std::move(worker);
    client_ = &worker_->client();
    return absl::OkStatus();
  }

  // Measures `load` in turns with raw TCP. `unit`: rows or bytes of one call; `scale`: to the unit.
  absl::Status Measure(std::string name, const char* unit, double units_per_call, double scale,
                       double cpu_unit, size_t request_bytes, size_t answer_bytes, BenchLoad* load) {
    if (!Wanted(name)) return absl::OkStatus();
    if (auto warm = load->Run(~0ull, options_.turn_s / 2); !warm.ok()) return warm.status();
    std::vector<double> rates, ceilings, cpus;
    for (int turn = 0; turn < options_.turns; ++turn) {
      const double start = ClockSeconds(CLOCK_MONOTONIC);
      const double cpu = ClockSeconds(CLOCK_PROCESS_CPUTIME_ID) + ClockSeconds(server_clock_);
      const auto calls = load->Run(~0ull, options_.turn_s);
      if (!calls.ok()) return calls.status();
      const double units = static_cast<double>(*calls) * units_per_call;
      rates.push_back(units / (ClockSeconds(CLOCK_MONOTONIC) - start) * scale);
      cpus.push_back((ClockSeconds(CLOCK_PROCESS_CPUTIME_ID) + ClockSeconds(server_clock_) - cpu) / units *
                     1e6 * cpu_unit);
      const auto raw =
          RawTcpRoundTrips(request_bytes, answer_bytes, kBenchInFlight, options_.turn_s / 2);
      if (!raw.ok()) return raw.status();
      ceilings.push_back(*raw * units_per_call * scale);
    }
    report_({std::move(name), Median(rates), unit, Median(ceilings), Median(cpus),
             *std::min_element(cpus.begin(), cpus.end())});
    return absl::OkStatus();
  }

  absl::Status Sparse(const Shape& shape) {
    if (absl::Status s = FillTable(client_, shape.table, shape.width, shape.keys); !s.ok()) return s;
    Random random(shape.width);
    std::vector<std::vector<Key>> batches;
    for (int b = 0; b < kBatches; ++b) batches.push_back(DistinctKeys(&random, shape.keys));
    const size_t row_bytes = kBenchBatchKeys * shape.width * sizeof(float);
    const size_t key_bytes = kBenchBatchKeys * sizeof(Key);

    std::vector<std::vector<float>> rows(kBenchInFlight, std::vector<float>(kBenchBatchKeys * shape.width));
    BenchLoad pulls([&](int slot, uint64_t i, std::function<void(absl::Status)> done) {
      const TablePull pull{shape.table, batches[i % kBatches], rows[static_cast<size_t>(slot)]};
      client_->Pull(0, kNoBound, {&pull, 1},
                    [done = std::move(done)](ParameterClient::PullResult r) { done(r.status); });
    });
    if (absl::Status s = Measure(PullName(shape), "Mrows/s",
                                 kBenchBatchKeys, 1e-6, 1, key_bytes, row_bytes, &pulls);
        !s.ok()) {
      return s;
    }
    const std::vector<float> gradients(kBenchBatchKeys * shape.width, 1e-6f);
    BenchLoad pushes([&](int, uint64_t i, std::function<void(absl::Status)> done) {
      const TablePush push{shape.table, batches[i % kBatches], gradients, {}};
      client_->Push(0, 1, {&push, 1}, [done = std::move(done)](ParameterClient::PushResult r) { done(r.status); });
    });
    return Measure(PushName(shape), "Mrows/s", kBenchBatchKeys, 1e-6, 1,
                   key_bytes + row_bytes, kSmallMessageBytes, &pushes);
  }

  absl::Status Dense() {
    std::vector<Key> blocks(kDenseBlocks);
    for (size_t k = 0; k < blocks.size(); ++k) blocks[k] = k;
    constexpr size_t kBytes = size_t{kDenseBlock} * kDenseBlocks * sizeof(float);
    std::vector<std::vector<float>> rows(kBenchInFlight, std::vector<float>(kBytes / sizeof(float)));
    BenchLoad pulls([&](int slot, uint64_t, std::function<void(absl::Status)> done) {
      const TablePull pull{2, blocks, rows[static_cast<size_t>(slot)]};
      client_->Pull(0, kNoBound, {&pull, 1},
                    [done = std::move(done)](ParameterClient::PullResult r) { done(r.status); });
    });
    if (absl::Status s = Measure("wire/dense_pull_1mb", "GB/s", kBytes, 1e-9, 1e6,
                                 kSmallMessageBytes, kBytes, &pulls);
        !s.ok()) {
      return s;
    }
    const std::vector<float> gradients(kBytes / sizeof(float), 1e-6f);
    BenchLoad pushes([&](int, uint64_t, std::function<void(absl::Status)> done) {
      const TablePush push{2, blocks, gradients, {}};
      client_->Push(0, 1, {&push, 1}, [done = std::move(done)](ParameterClient::PushResult r) { done(r.status); });
    });
    return Measure("wire/dense_push_1mb", "GB/s", kBytes, 1e-9, 1e6, kBytes, kSmallMessageBytes,
                   &pushes);
  }

  const WireBenchOptions options_;
  const std::function<void(const WireFigure&)>& report_;
  clockid_t server_clock_ = 0;
  std::unique_ptr<BenchWorker> worker_;
  ClusterClient* client_ = nullptr;
};

}  // namespace

WireBenchOptions QuickWireBench() {
  WireBenchOptions options;
  options.keys = 1'000'000;
  options.turns = 5;
  options.turn_s = 0.25;
  return options;
}

std::string WireBenchConfig() { return BenchJob("bench-wire", "servers: 1 workers: 1"); }

absl::Status BenchWire(const WireBenchOptions& options,
                       const std::function<void(const WireFigure&)>& report) {
  KeepFreedMemory();  // as workers do
  return Bench(options, report).Run();
}

}  // namespace tidegate
