#include "worker/client/replication_bench.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/malloc_tuning.h"
#include "common/random.h"
#include "worker/client/bench_load.h"
#include "worker/client/raw_tcp.h"

namespace tidegate {
namespace {

constexpr uint32_t kWidth = 16;
constexpr int kBatches = 256;  // 2 M keys: their rows are beyond any cache
constexpr double kSettledS = 0.02, kSettleS = 3;
constexpr size_t kSmallMessageBytes = 64;

struct Optimizer {
  const char* name;
  TableId table;
};
constexpr Optimizer kOptimizers[] = {{"sgd", 0}, {"adagrad", 1}};

std::vector<TableSpec> Tables() {
  TableSpec adagrad = BenchTable(1, "adagrad", kWidth);
  adagrad.mutable_parts(0)->mutable_optimizer()->mutable_adagrad()->set_lr(0.01f);
  return {BenchTable(0, "sgd", kWidth), adagrad};
}

class Bench {
 public:
  Bench(const ReplicationBenchOptions& options, const std::function<void(const ReplicationFigure&)>& report)
      : options_(options), report_(report) {}

  absl::Status Run() {
    absl::Status status = Join();
    Random random(kWidth);
    for (int b = 0; b < kBatches; ++b) batches_.push_back(DistinctKeys(&random, options_.keys));
    for (const Optimizer& optimizer : kOptimizers) {
      if (status.ok()) status = Pushes(optimizer);
    }
    if (status.ok()) status = Pulls();
    if (status.ok()) status = RawTcp();
    for (Cluster& cluster : clusters_) {
      if (cluster.worker != nullptr) cluster.worker->Leave();
    }
    return status;
  }

 private:
  struct Cluster {
    std::string name;
    std::vector<clockid_t> clocks;
    std::unique_ptr<BenchWorker> worker;
    std::unique_ptr<BenchLoad> load;
    std::vector<double> all_us, servers_us;  // CPU time a row, of each turn

    double ServerSeconds() const {
      double seconds = 0;
      for (const clockid_t clock : clocks) seconds += ClockSeconds(clock);
      return seconds;
    }
  };

  absl::Status Join() {
    for (const ReplicationBenchCluster& options : options_.clusters) {
      Cluster& cluster = clusters_.emplace_back();
      cluster.name = options.name;
      for (const pid_t pid : options.servers) {
        auto clock = CpuClockOf(pid);
        if (!clock.ok()) return clock.status();
        cluster.clocks.push_back(*clock);
      }
      auto worker = BenchWorker::Join(options.scheduler, Tables());
      if (!worker.ok()) return worker.status();
      cluster.worker = *std::move(worker);
    }
    return absl::OkStatus();
  }

  bool Wanted(const std::string& what) const { return absl::StrCat("replication/", what).find(options_.only) != std::string::npos; }

  // Waits until the servers have done what was left to them: their CPU time stands still.
  static void Settle(const Cluster& cluster) {
    const double until = ClockSeconds(CLOCK_MONOTONIC) + kSettleS;
    double before = cluster.ServerSeconds();
    while (ClockSeconds(CLOCK_MONOTONIC) < until) {
      std::this_thread::sleep_for(std::chrono::duration<double>(kSettledS));
      const double now = cluster.ServerSeconds();
      if (now - before < kSettledS / 10) return;
      before = now;
    }
  }

  absl::Status Turn(Cluster* cluster, double seconds, bool counts) {
    const double own = ClockSeconds(CLOCK_PROCESS_CPUTIME_ID), servers = cluster->ServerSeconds();
    const auto calls = cluster->load->Run(~0ull, seconds);
    if (!calls.ok()) return calls.status();
    Settle(*cluster);
    const double server_us = (cluster->ServerSeconds() - servers) * 1e6;
    const double own_us = (ClockSeconds(CLOCK_PROCESS_CPUTIME_ID) - own) * 1e6;
    const double rows = static_cast<double>(*calls) * kBenchBatchKeys;
    if (!counts || rows == 0) return absl::OkStatus();
    cluster->servers_us.push_back(server_us / rows);
    cluster->all_us.push_back((server_us + own_us) / rows);
    return absl::OkStatus();
  }

  absl::Status Measure(const std::string& what) {
    for (Cluster& cluster : clusters_) {
      cluster.all_us.clear();
      cluster.servers_us.clear();
      if (absl::Status s = Turn(&cluster, options_.turn_s / 2, false); !s.ok()) return s;
    }
    for (int turn = 0; turn < options_.turns; ++turn) {
      for (size_t i = 0; i < clusters_.size(); ++i) {
        Cluster& cluster = clusters_[(i + static_cast<size_t>(turn)) % clusters_.size()];
        if (absl::Status s = Turn(&cluster, options_.turn_s, true); !s.ok()) return s;
      }
    }
    for (const Cluster& cluster : clusters_) {
      Report(absl::StrCat(what, "/", cluster.name), cluster.all_us, clusters_.front().all_us);
      Report(absl::StrCat(what, "/", cluster.name, "/servers"), cluster.servers_us, clusters_.front().servers_us);
    }
    return absl::OkStatus();
  }

  void Report(const std::string& name, const std::vector<double>& us, const std::vector<double>& first) const {
    if (us.empty() || first.empty()) return;
    report_({absl::StrCat("replication/", name), 1 / Median(us), 1 / Median(first), Median(us), *std::min_element(us.begin(), us.end())});
  }

  absl::Status Pushes(const Optimizer& optimizer) {
    const std::string what = absl::StrCat("push_16_", optimizer.name);
    if (!Wanted(what) && !(optimizer.table == 0 && Wanted("pull_16"))) return absl::OkStatus();
    const std::vector<float> gradients(kBenchBatchKeys * kWidth, 1e-6f);
    for (Cluster& cluster : clusters_) {
      ClusterClient* client = &cluster.worker->client();
      if (absl::Status s = FillTable(client, optimizer.table, kWidth, options_.keys); !s.ok()) return s;
      cluster.load = std::make_unique<BenchLoad>([&, client](int, uint64_t i, std::function<void(absl::Status)> done) {
        const TablePush push{optimizer.table, batches_[i % kBatches], gradients, {}};
        client->Push(0, 1, {&push, 1}, [done = std::move(done)](ParameterClient::PushResult r) { done(r.status); });
      });
    }
    return Wanted(what) ? Measure(what) : absl::OkStatus();
  }

  absl::Status Pulls() {
    if (!Wanted("pull_16")) return absl::OkStatus();
    std::vector<std::vector<float>> rows(kBenchInFlight, std::vector<float>(kBenchBatchKeys * kWidth));
    for (Cluster& cluster : clusters_) {
      ClusterClient* client = &cluster.worker->client();
      cluster.load = std::make_unique<BenchLoad>([&, client](int slot, uint64_t i, std::function<void(absl::Status)> done) {
        const TablePull pull{0, batches_[i % kBatches], rows[static_cast<size_t>(slot)]};
        client->Pull(0, kNoBound, {&pull, 1}, [done = std::move(done)](ParameterClient::PullResult r) { done(r.status); });
      });
    }
    return Measure("pull_16");
  }

  // What it takes to move a batch once: both ends in this process.
  absl::Status RawTcp() {
    if (!Wanted("raw_tcp_16")) return absl::OkStatus();
    const size_t bytes = kBenchBatchKeys * (sizeof(Key) + kWidth * sizeof(float)) / kReplicationBenchServers;
    std::vector<double> us;
    for (int turn = 0; turn < options_.turns; ++turn) {
      const double begin = ClockSeconds(CLOCK_MONOTONIC), cpu = ClockSeconds(CLOCK_PROCESS_CPUTIME_ID);
      const auto raw = RawTcpRoundTrips(bytes, kSmallMessageBytes, kBenchInFlight, options_.turn_s / 2);
      if (!raw.ok()) return raw.status();
      const double rows = *raw * (ClockSeconds(CLOCK_MONOTONIC) - begin) * kBenchBatchKeys / kReplicationBenchServers;
      us.push_back((ClockSeconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) * 1e6 / rows);
    }
    Report("raw_tcp_16", us, us);
    return absl::OkStatus();
  }

  const ReplicationBenchOptions options_;
  const std::function<void(const ReplicationFigure&)>& report_;
  std::vector<Cluster> clusters_;
  std::vector<std::vector<Key>> batches_;
};

}  // namespace

ReplicationBenchOptions QuickReplicationBench() {
  ReplicationBenchOptions options;
  options.keys = 1'000'000;
  options.turns = 5;
  options.turn_s = 0.3;
  return options;
}

std::string ReplicationBenchConfig(const std::string& durability) {
  return BenchJob("bench-replication", absl::StrCat("servers: ", kReplicationBenchServers, " workers: 1 replicas: ", durability == "NONE" ? 1 : 2,
                                                    " durability: ", durability));
}

absl::Status BenchReplication(const ReplicationBenchOptions& options,
                              const std::function<void(const ReplicationFigure&)>& report) {
  KeepFreedMemory();  // as workers do
  return Bench(options, report).Run();
}

}  // namespace tidegate
