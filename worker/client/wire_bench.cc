#include "worker/client/wire_bench.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/malloc_tuning.h"
#include "common/random.h"
#include "common/routing_table.h"
#include "common/rpc/member_link.h"
#include "worker/client/raw_tcp.h"
#include "worker/client/rpc/cluster_client.h"

namespace tidegate {
namespace {

constexpr size_t kBatchKeys = 8192;  // as a worker's message
constexpr int kBatches = 256;  // 2 M keys: their rows are beyond any cache
constexpr int kInFlight = 3;
constexpr size_t kSmallMessageBytes = 64;
constexpr uint32_t kDenseBlock = 4096;
constexpr uint32_t kDenseBlocks = 64;  // 1 MiB
constexpr int kRoutingTimeoutS = 30;

struct Shape {
  const char* name;
  TableId table;
  uint32_t width;
  uint64_t keys;
};

double Seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

TableSpec SparseSpec(TableId id, const char* name, uint32_t dim) {
  TableSpec spec;
  spec.set_id(id);
  spec.set_name(name);
  spec.set_seed(1);
  PartSpec* part = spec.add_parts();
  part->set_name("v");
  part->set_dim(dim);
  part->mutable_optimizer()->mutable_sgd()->set_lr(0.01f);
  return spec;
}

TableSpec DenseSpec(TableId id) {
  TableSpec spec = SparseSpec(id, "dense", kDenseBlock);
  spec.set_kind(TableSpec::DENSE);
  spec.add_shape(kDenseBlock * kDenseBlocks);
  return spec;
}

std::vector<Key> DistinctKeys(Random* random, uint64_t vocabulary) {
  std::vector<Key> keys;
  while (keys.size() < kBatchKeys) {
    while (keys.size() < kBatchKeys) keys.push_back(Mix64(random->Below(vocabulary)));
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  }
  // Workers' keys come in the order of the data.
  for (size_t i = keys.size(); i > 1; --i) std::swap(keys[i - 1], keys[random->Below(i)]);
  return keys;
}

// Calls under way, each starting the next when it is done, until told to stop.
class Load {
 public:
  // `start(slot, i, done)` makes the i-th call.
  using Start = std::function<void(int slot, uint64_t i, std::function<void(absl::Status)> done)>;

  explicit Load(Start start) : start_(std::move(start)) {}

  // Runs until `calls` were made, or for `seconds`; returns how many ended.
  absl::StatusOr<uint64_t> Run(uint64_t calls, double seconds) {
    left_ = calls;
    ended_ = 0;
    deadline_ = Seconds(CLOCK_MONOTONIC) + seconds;
    running_ = kInFlight;
    for (int slot = 0; slot < kInFlight; ++slot) Next(slot);
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return running_ == 0; });
    if (!status_.ok()) return status_;
    return ended_;
  }

 private:
  void Next(int slot) {
    uint64_t i;
    {
      std::lock_guard lock(mutex_);
      if (left_ == 0 || !status_.ok() || Seconds(CLOCK_MONOTONIC) >= deadline_) {
        if (--running_ == 0) finished_.notify_one();  // with the lock: this may go at once
        return;
      }
      i = --left_;
    }
    start_(slot, i, [this, slot](absl::Status status) {
      {
        std::lock_guard lock(mutex_);
        ++ended_;
        status_.Update(status);
      }
      Next(slot);
    });
  }

  const Start start_;
  std::mutex mutex_;
  uint64_t left_ = 0;
  uint64_t ended_ = 0;
  int running_ = 0;
  double deadline_ = 0;
  absl::Status status_;
  std::condition_variable finished_;
};

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
    client_->Stop();
    link_->Leave("the benchmark is done").IgnoreError();
    link_->Stop();
    return status;
  }

 private:
  static std::string PullName(const Shape& shape) { return absl::StrCat("wire/sparse_pull_", shape.name); }
  static std::string PushName(const Shape& shape) { return absl::StrCat("wire/sparse_push_", shape.name); }
  bool Wanted(const std::string& name) const { return name.find(options_.only) != std::string::npos; }

  absl::Status Join() {
    if (clock_getcpuclockid(options_.server_pid, &server_clock_) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("no process ", options_.server_pid));
    }
    MemberLink::Options options;
    options.scheduler = options_.scheduler;
    options.role = WORKER;
    options.name = "bench";
    MemberLink::Callbacks callbacks;
    callbacks.routing = [this](const RoutingTable& table) {
      auto routing = Routing::FromProto(table);
      if (!routing.ok() || std::exchange(routed_, true)) return;
      routing_.set_value(std::make_shared<const Routing>(*std::move(routing)));
    };
    link_ = std::make_unique<MemberLink>(options, callbacks);
    if (absl::Status s = link_->Join(); !s.ok()) return s;
    link_->Start();
    if (absl::Status s = link_->DeclareTables(
            {SparseSpec(0, "rows16", 16), SparseSpec(1, "rows64", 64), DenseSpec(2)});
        !s.ok()) {
      return s;
    }
    auto routing = routing_.get_future();
    if (routing.wait_for(std::chrono::seconds(kRoutingTimeoutS)) != std::future_status::ready) {
      return absl::DeadlineExceededError(
          absl::StrCat("no routing table after ", kRoutingTimeoutS, " s: has the server joined?"));
    }
    ClusterClient::Options client;
    client.tracker.generation = link_->membership().generation;
    client.tracker.incarnation = link_->membership().incarnation;
    client_ = std::make_unique<ClusterClient>(client);
    client_->SetRouting(routing.get());
    return absl::OkStatus();
  }

  // Measures `load` in turns with raw TCP. `unit`: rows or bytes of one call; `scale`: to the unit.
  absl::Status Measure(std::string name, const char* unit, double units_per_call, double scale,
                       double cpu_unit, size_t request_bytes, size_t answer_bytes, Load* load) {
    if (!Wanted(name)) return absl::OkStatus();
    if (auto warm = load->Run(~0ull, options_.turn_s / 2); !warm.ok()) return warm.status();
    std::vector<double> rates, ceilings, cpus;
    for (int turn = 0; turn < options_.turns; ++turn) {
      const double start = Seconds(CLOCK_MONOTONIC);
      const double cpu = Seconds(CLOCK_PROCESS_CPUTIME_ID) + Seconds(server_clock_);
      const auto calls = load->Run(~0ull, options_.turn_s);
      if (!calls.ok()) return calls.status();
      const double units = static_cast<double>(*calls) * units_per_call;
      rates.push_back(units / (Seconds(CLOCK_MONOTONIC) - start) * scale);
      cpus.push_back((Seconds(CLOCK_PROCESS_CPUTIME_ID) + Seconds(server_clock_) - cpu) / units *
                     1e6 * cpu_unit);
      const auto raw =
          RawTcpRoundTrips(request_bytes, answer_bytes, kInFlight, options_.turn_s / 2);
      if (!raw.ok()) return raw.status();
      ceilings.push_back(*raw * units_per_call * scale);
    }
    report_({std::move(name), Median(rates), unit, Median(ceilings), Median(cpus),
             *std::min_element(cpus.begin(), cpus.end())});
    return absl::OkStatus();
  }

  absl::Status Fill(const Shape& shape) {
    std::vector<std::vector<Key>> keys(kInFlight, std::vector<Key>(kBatchKeys));
    const std::vector<float> gradients(kBatchKeys * shape.width, 0.01f);
    Load load([&](int slot, uint64_t i, std::function<void(absl::Status)> done) {
      std::vector<Key>& mine = keys[static_cast<size_t>(slot)];
      for (size_t k = 0; k < kBatchKeys; ++k) mine[k] = Mix64(i * kBatchKeys + k);
      const TablePush push{shape.table, mine, gradients, {}};
      client_->Push(0, 1, {&push, 1}, std::move(done));
    });
    return load.Run((shape.keys + kBatchKeys - 1) / kBatchKeys, 1e9).status();
  }

  absl::Status Sparse(const Shape& shape) {
    if (absl::Status s = Fill(shape); !s.ok()) return s;
    Random random(shape.width);
    std::vector<std::vector<Key>> batches;
    for (int b = 0; b < kBatches; ++b) batches.push_back(DistinctKeys(&random, shape.keys));
    const size_t row_bytes = kBatchKeys * shape.width * sizeof(float);
    const size_t key_bytes = kBatchKeys * sizeof(Key);

    std::vector<std::vector<float>> rows(kInFlight, std::vector<float>(kBatchKeys * shape.width));
    Load pulls([&](int slot, uint64_t i, std::function<void(absl::Status)> done) {
      const TablePull pull{shape.table, batches[i % kBatches], rows[static_cast<size_t>(slot)]};
      client_->Pull(0, kNoBound, {&pull, 1},
                    [done = std::move(done)](ParameterClient::PullResult r) { done(r.status); });
    });
    if (absl::Status s = Measure(PullName(shape), "Mrows/s",
                                 kBatchKeys, 1e-6, 1, key_bytes, row_bytes, &pulls);
        !s.ok()) {
      return s;
    }
    const std::vector<float> gradients(kBatchKeys * shape.width, 1e-6f);
    Load pushes([&](int, uint64_t i, std::function<void(absl::Status)> done) {
      const TablePush push{shape.table, batches[i % kBatches], gradients, {}};
      client_->Push(0, 1, {&push, 1}, std::move(done));
    });
    return Measure(PushName(shape), "Mrows/s", kBatchKeys, 1e-6, 1,
                   key_bytes + row_bytes, kSmallMessageBytes, &pushes);
  }

  absl::Status Dense() {
    std::vector<Key> blocks(kDenseBlocks);
    for (size_t k = 0; k < blocks.size(); ++k) blocks[k] = k;
    constexpr size_t kBytes = size_t{kDenseBlock} * kDenseBlocks * sizeof(float);
    std::vector<std::vector<float>> rows(kInFlight, std::vector<float>(kBytes / sizeof(float)));
    Load pulls([&](int slot, uint64_t, std::function<void(absl::Status)> done) {
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
    Load pushes([&](int, uint64_t, std::function<void(absl::Status)> done) {
      const TablePush push{2, blocks, gradients, {}};
      client_->Push(0, 1, {&push, 1}, std::move(done));
    });
    return Measure("wire/dense_push_1mb", "GB/s", kBytes, 1e-9, 1e6, kBytes, kSmallMessageBytes,
                   &pushes);
  }

  const WireBenchOptions options_;
  const std::function<void(const WireFigure&)>& report_;
  clockid_t server_clock_ = 0;
  bool routed_ = false;
  std::promise<std::shared_ptr<const Routing>> routing_;
  std::unique_ptr<MemberLink> link_;
  std::unique_ptr<ClusterClient> client_;
};

}  // namespace

WireBenchOptions QuickWireBench() {
  WireBenchOptions options;
  options.keys = 1'000'000;
  options.turns = 5;
  options.turn_s = 0.25;
  return options;
}

std::string WireBenchConfig() {
  return R"(name: "bench-wire"
data {
  format: GENERATED
  generator { cardinality: [10] }
  train { rows: 1000000 }
}
feature { name: "C1" id { } table: "t" }
table { name: "t" part { name: "w" dim: 1 sgd { lr: 0.01 } } }
model {
  block { name: "z" sum { in: "t.w" } }
  task { logit: "z" }
}
train { staleness: "inf" }
cluster { servers: 1 workers: 1 }
)";
}

absl::Status BenchWire(const WireBenchOptions& options,
                       const std::function<void(const WireFigure&)>& report) {
  KeepFreedMemory();  // as workers do
  return Bench(options, report).Run();
}

}  // namespace tidegate
