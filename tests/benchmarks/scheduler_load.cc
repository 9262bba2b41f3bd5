// What a large cluster costs the scheduler's process: members that join and heartbeat over gRPC on loopback. They hold
// no rows and do no work.
//
//   scheduler_load ADDRESS PID SERVERS WORKERS CONNECTIONS SECONDS
//
// ADDRESS and PID: of a scheduler whose job waits for SERVERS servers and WORKERS workers (tests/benchmarks/scheduler_load.py
// starts one). {"heartbeats_per_second": ..., "cpu_seconds_per_second": ..., "answer_ms_p50": ..., "answer_ms_p99": ...}
// cpu_seconds_per_second: of the scheduler's process alone. answer_ms: of heartbeats beyond the interval that the
// scheduler keeps them (it answers a heartbeat when there is news or its interval is over).

#include <grpcpp/create_channel.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/json.h"
#include "common/logging.h"
#include "proto/scheduler_service.grpc.pb.h"

namespace tidegate {
namespace {

using Stub = SchedulerService::Stub;

// CPU seconds, user and system, of a process.
double CpuOf(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skip;
  double user = 0, system = 0;
  for (int i = 3; i < 14; ++i) fields >> skip;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

struct Shared {
  std::atomic<uint64_t> joined{0}, answered{0}, failed{0}, tables{0};
  std::atomic<bool> measuring{false}, stopping{false};
  std::atomic<int64_t> open{0};
  uint64_t generation = 0;
};

class Member {
 public:
  Member(Shared* shared, Stub* stub, Role role, int number) : shared_(shared), stub_(stub), role_(role), number_(number) {}

  void Join() {
    JoinRequest request;
    request.set_role(role_);
    request.set_name(std::string(role_ == SERVER ? "server/" : "worker/") + std::to_string(number_));
    request.set_address("10.0.0.1:" + std::to_string(1 + number_));
    request.set_nonce(static_cast<uint64_t>(number_) * 2 + (role_ == SERVER ? 1 : 2));
    JoinResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->Join(&context, request, &response);
    TG_CHECK(status.ok()) << status.error_message();
    request_.set_incarnation(response.incarnation());
    request_.set_generation(response.generation());
    interval_ms_ = response.heartbeat_interval_ms();
    ++shared_->joined;
  }
  void DeclareTables() {
    DeclareTablesRequest request;
    request.set_incarnation(request_.incarnation());
    TableSpec* table = request.add_tables();
    table->set_name("emb");
    table->add_parts()->set_dim(8);
    DeclareTablesResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->DeclareTables(&context, request, &response);
    TG_CHECK(status.ok()) << status.error_message();
  }
  void Heartbeat() {
    if (shared_->stopping) return;
    ++shared_->open;
    context_ = std::make_unique<grpc::ClientContext>();
    response_.Clear();
    sent_ = std::chrono::steady_clock::now();
    stub_->async()->Heartbeat(context_.get(), &request_, &response_, [this](const grpc::Status& status) { OnAnswer(status); });
  }
  const std::vector<float>& answer_ms() const { return answer_ms_; }

 private:
  void OnAnswer(const grpc::Status& status) {
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - sent_).count();
    if (!status.ok()) {
      ++shared_->failed;
    } else {
      ++shared_->answered;
      if (shared_->measuring) answer_ms_.push_back(static_cast<float>(std::max(0.0, ms - interval_ms_)));
      request_.clear_results();
      request_.set_seen_term(response_.term());
      request_.set_seen_probe(std::max(request_.seen_probe(), response_.probe()));
      if (response_.has_routing()) request_.set_routing_epoch(response_.routing().epoch());
      if (response_.has_workers()) request_.set_worker_set_version(response_.workers().version());
      for (const Command& command : response_.commands()) {
        request_.set_last_command(std::max(request_.last_command(), command.id()));
        request_.add_results()->set_id(command.id());
        if (command.has_open_tables()) ++shared_->tables;
      }
    }
    Heartbeat();
    --shared_->open;
  }

  Shared* const shared_;
  Stub* const stub_;
  const Role role_;
  const int number_;
  double interval_ms_ = 0;
  HeartbeatRequest request_;
  HeartbeatResponse response_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::chrono::steady_clock::time_point sent_;
  std::vector<float> answer_ms_;
};

float Quantile(std::vector<float>* values, double q) {
  if (values->empty()) return -1;
  const auto at = values->begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(values->size() - 1));
  std::nth_element(values->begin(), at, values->end());
  return *at;
}

int Run(const std::string& address, int pid, int servers, int workers, int connections, double seconds) {
  Shared shared;
  std::vector<std::unique_ptr<Stub>> stubs;
  for (int i = 0; i < connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    stubs.push_back(SchedulerService::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
  }
  std::vector<std::unique_ptr<Member>> members;
  for (int i = 0; i < servers + workers; ++i) {
    const bool server = i < servers;
    members.push_back(std::make_unique<Member>(&shared, stubs[static_cast<size_t>(i % connections)].get(), server ? SERVER : WORKER,
                                               server ? i : i - servers));
    members.back()->Join();
    if (i == servers) members.back()->DeclareTables();
    // Each begins at once: a lease is short.
    members.back()->Heartbeat();
  }
  const auto opened = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (shared.tables < static_cast<uint64_t>(servers) && std::chrono::steady_clock::now() < opened) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::this_thread::sleep_for(std::chrono::seconds(2));
  const uint64_t before = shared.answered;
  const double cpu = CpuOf(pid), own = CpuOf(getpid());
  const auto begin = std::chrono::steady_clock::now();
  shared.measuring = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  shared.measuring = false;
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double used = CpuOf(pid) - cpu, spent = CpuOf(getpid()) - own;
  const uint64_t answered = shared.answered - before;
  shared.stopping = true;
  while (shared.open > 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::vector<float> answers;
  for (const auto& member : members) answers.insert(answers.end(), member->answer_ms().begin(), member->answer_ms().end());
  std::cout << JsonObject()
                   .Integer("servers", servers)
                   .Integer("workers", workers)
                   .Integer("connections", connections)
                   .Integer("servers_that_opened_tables", static_cast<int64_t>(shared.tables))
                   .Integer("failed", static_cast<int64_t>(shared.failed))
                   .Number("heartbeats_per_second", static_cast<double>(answered) / elapsed)
                   .Number("cpu_seconds_per_second", used / elapsed)
                   .Number("load_cpu_seconds_per_second", spent / elapsed)
                   .Number("answer_ms_p50", Quantile(&answers, .5))
                   .Number("answer_ms_p99", Quantile(&answers, .99))
                   .Build()
            << std::endl;
  return shared.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  if (argc != 7) {
    std::cerr << "usage: scheduler_load ADDRESS PID SERVERS WORKERS CONNECTIONS SECONDS\n";
    return 2;
  }
  return tidegate::Run(argv[1], std::atoi(argv[2]), std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]), std::atof(argv[6]));
}
