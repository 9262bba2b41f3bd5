#include "cli/bench_clusters.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/process.h"

namespace tidegate::cli {

BenchClusters::BenchClusters(std::string bin_dir, std::string run_dir)
    : bin_dir_(bin_dir.empty() ? OwnFolder() : std::move(bin_dir)), run_dir_(std::move(run_dir)) {}

BenchClusters::~BenchClusters() = default;

absl::Status BenchClusters::Start(const std::string& name, const std::string& config, int servers) {
  const std::string folder = run_dir_ + "/" + name;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  LocalClusterOptions options;
  options.bin_dir = bin_dir_;
  options.run_dir = folder;
  options.config = folder + "/bench.textproto";
  options.servers = servers;
  options.workers = 0;
  options.external_workers = 1;
  options.server_args = {"--executors=1"};
  options.show_progress = false;
  std::ofstream(options.config) << config;
  auto one = std::make_unique<One>();
  one->terminal = std::make_unique<Terminal>(Verbosity::kQuiet, folder + "/logs", false);
  one->cluster = std::make_unique<LocalCluster>(options, one->terminal.get());
  const absl::Status status = one->cluster->Start();
  clusters_.push_back(std::move(one));
  return status;
}

bool BenchClusters::Step(int timeout_ms) {
  bool all = true;
  for (const auto& one : clusters_) all = one->cluster->Step(timeout_ms) && one->cluster->endings().empty() && all;
  return all;
}

absl::Status BenchClusters::Run(std::function<absl::Status()> measure) {
  struct Outcome {
    absl::Status status;
    std::atomic<bool> done{false};
  };
  auto outcome = std::make_shared<Outcome>();
  std::thread thread([measure = std::move(measure), outcome] {
    outcome->status = measure();
    outcome->done = true;
  });
  while (!outcome->done && Step(100)) {
  }
  for (int i = 0; i < 50 && !outcome->done; ++i) {  // time to say what went wrong
    Step(0);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  absl::Status status = absl::AbortedError("a cluster ended before the figures were taken");
  if (outcome->done) {
    thread.join();
    status = outcome->status;
  } else {
    thread.detach();
  }
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(std::string(status.message()), " (logs: ", run_dir_, "/*/logs)"));
}

}  // namespace tidegate::cli
