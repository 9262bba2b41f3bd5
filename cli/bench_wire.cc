#include "cli/bench_wire.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cli/process.h"
#include "worker/client/wire_bench.h"

namespace tidegate::cli {
namespace {

constexpr int kStartTimeoutMs = 15'000;
constexpr int kPollMs = 50;

// Carries the output of processes into a file, so that none of them ever waits for a reader.
class Logger {
 public:
  Logger(const std::string& path, std::vector<int> outputs)
      : file_(path), outputs_(std::move(outputs)), thread_([this] { Loop(); }) {}
  ~Logger() {
    stop_ = true;
    thread_.join();
  }

 private:
  void Loop() {
    std::vector<char> buffer(1 << 16);
    while (!stop_) {
      std::vector<pollfd> fds;
      for (int fd : outputs_) fds.push_back({fd, POLLIN, 0});
      if (poll(fds.data(), fds.size(), kPollMs) <= 0) continue;
      for (const pollfd& fd : fds) {
        const ssize_t n = fd.revents != 0 ? read(fd.fd, buffer.data(), buffer.size()) : 0;
        if (n > 0) file_.write(buffer.data(), n).flush();
      }
    }
  }

  std::ofstream file_;
  std::vector<int> outputs_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

absl::StatusOr<std::string> AwaitAddress(const std::string& path, ChildProcess* scheduler) {
  for (int waited = 0; waited < kStartTimeoutMs; waited += kPollMs) {
    std::ifstream file(path);
    std::string line;
    if (std::getline(file, line) && !line.empty()) return line;
    if (scheduler->Ended()) {
      return absl::InternalError(absl::StrCat("the scheduler did not start: ", scheduler->Ending()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
  }
  return absl::DeadlineExceededError("the scheduler does not listen");
}

}  // namespace

absl::Status RunBenchWire(const BenchWireOptions& options,
                          const std::function<void(const BenchFigure&)>& report) {
  std::error_code error;
  std::filesystem::create_directories(options.run_dir, error);
  const std::string config = options.run_dir + "/job.textproto";
  if (!(std::ofstream(config) << WireBenchConfig())) {
    return absl::InternalError(absl::StrCat("cannot write ", config));
  }
  const std::string bin = options.bin_dir.empty() ? OwnFolder() : options.bin_dir;
  const std::string address_file = options.run_dir + "/address";
  auto scheduler = ChildProcess::Start(
      "scheduler", {bin + "/tidegate-scheduler", "--config=" + config, "--metrics_port=-1",
                    "--address_file=" + address_file, "--state=" + options.run_dir + "/state"});
  if (!scheduler.ok()) return scheduler.status();
  const Logger scheduler_log(options.run_dir + "/scheduler.log", {(*scheduler)->output()});
  const auto address = AwaitAddress(address_file, scheduler->get());
  if (!address.ok()) return address.status();
  auto server = ChildProcess::Start("server", {bin + "/tidegate-server", "--scheduler=" + *address,
                                               "--executors=1", "--metrics_port=-1"});
  if (!server.ok()) return server.status();
  const Logger server_log(options.run_dir + "/server.log", {(*server)->output()});

  WireBenchOptions bench = options.quick ? QuickWireBench() : WireBenchOptions();
  bench.scheduler = *address;
  bench.server_pid = (*server)->pid();
  return BenchWire(bench, [&](const WireFigure& f) {
    report({f.name, f.value, f.unit, f.ceiling, f.cpu_us_per_unit});
  });
}

}  // namespace tidegate::cli
