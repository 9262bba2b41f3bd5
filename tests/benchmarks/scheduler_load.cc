// What a large cluster costs the scheduler's process: members that join, all at once, and heartbeat over gRPC on
// loopback; then one server falls silent. They hold no rows and do no work.
//
//   scheduler_load ADDRESS PID SERVERS WORKERS CONNECTIONS SECONDS
//
// ADDRESS and PID: of a scheduler whose job waits for SERVERS servers and WORKERS workers (tests/benchmarks/scheduler_load.py
// starts one). Prints a JSON line; CPU seconds are of the scheduler's process alone unless they are called the load's:
//   join_s, join_cpu_s: from the first join to the answer of the last; tables_s, tables_cpu_s: from there until every
//     member has the first routing table and every server has opened its tables
//   heartbeats_per_second, cpu_seconds_per_second: of SECONDS with nothing else to do
//   late_ms_p50, late_ms_p99: of servers' heartbeats, beyond the interval that the scheduler keeps them
//   silent_ms: from a server's last heartbeat to the first member with a table without it; spread_ms: from there until all have it

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
#include <utility>
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

using Clock = std::chrono::steady_clock;

double MsSince(Clock::time_point begin) { return std::chrono::duration<double, std::milli>(Clock::now() - begin).count(); }

struct Shared {
  std::atomic<uint64_t> joined{0}, answered{0}, failed{0}, tables{0}, routed{0}, reported{0}, rejoined{0};
  std::atomic<uint64_t> newest{0}, epoch{1};  // `routed` counts members that know `epoch`
  std::atomic<bool> measuring{false}, stopping{false};
  std::atomic<int64_t> open{0};

  // False: not within the time.
  bool Await(const char* what, const std::atomic<uint64_t>& count, size_t wanted, int seconds) {
    const auto begin = Clock::now();
    int said = 0;
    while (count < wanted && MsSince(begin) < 1000.0 * seconds) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      if (MsSince(begin) < 5000.0 * (said + 1)) continue;
      std::cerr << 5 * ++said << " s: " << count << " of " << wanted << ' ' << what << ", " << rejoined << " joined again" << std::endl;
    }
    return count >= wanted;
  }
};

class Member {
 public:
  Member(Shared* shared, Stub* stub, Role role, int number) : shared_(shared), stub_(stub), role_(role), number_(number) {}

  void Join() {
    join_.set_role(role_);
    join_.set_name(std::string(role_ == SERVER ? "server/" : "worker/") + std::to_string(number_));
    join_.set_address("10.0.0.1:" + std::to_string(1 + number_));
    if (join_.nonce() == 0) join_.set_nonce(static_cast<uint64_t>(number_) * 2 + (role_ == SERVER ? 1 : 2));
    context_ = std::make_unique<grpc::ClientContext>();
    ++shared_->open;
    stub_->async()->Join(context_.get(), &join_, &joined_, [this](const grpc::Status& status) {
      TG_CHECK(status.ok()) << status.error_message();
      request_.Clear();
      request_.set_incarnation(joined_.incarnation());
      request_.set_generation(joined_.generation());
      interval_ms_ = joined_.heartbeat_interval_ms();
      if (!std::exchange(has_joined_, true)) ++shared_->joined;
      Heartbeat();
      --shared_->open;
    });
  }
  // False: this one is no member any more.
  bool DeclareTables() {
    DeclareTablesRequest request;
    request.set_incarnation(joined_.incarnation());
    TableSpec* table = request.add_tables();
    table->set_name("emb");
    table->add_parts()->set_dim(8);
    DeclareTablesResponse response;
    grpc::ClientContext context;
    return stub_->DeclareTables(&context, request, &response).ok();
  }
  // Sends no more heartbeats.
  void FallSilent() { silent_ = true; }
  bool heartbeats() const { return beating_; }
  const std::vector<float>& late_ms() const { return late_ms_; }

 private:
  void Heartbeat() {
    beating_ = !shared_->stopping && !silent_;
    if (!beating_) return;
    ++shared_->open;
    context_ = std::make_unique<grpc::ClientContext>();
    sent_ = Clock::now();
    stub_->async()->Heartbeat(context_.get(), &request_, &response_, [this](const grpc::Status& status) { OnAnswer(status); });
  }
  void OnAnswer(const grpc::Status& status) {
    const double ms = MsSince(sent_);
    if (status.ok()) {
      ++shared_->answered;
      if (response_.rejoin() && !silent_) {
        ++shared_->rejoined;
        join_.set_nonce(join_.nonce() + (1ull << 32));
        Join();
        --shared_->open;
        return;
      }
      if (shared_->measuring && role_ == SERVER) late_ms_.push_back(static_cast<float>(std::max(0.0, ms - interval_ms_)));
      Take();
    } else {
      ++shared_->failed;
    }
    response_ = HeartbeatResponse();  // a table's memory is not kept
    Heartbeat();
    --shared_->open;
  }
  void Take() {
    shared_->reported += request_.results_size() > 0 ? 1 : 0;
    request_.clear_results();
    request_.set_seen_term(response_.term());
    request_.set_seen_probe(std::max(request_.seen_probe(), response_.probe()));
    if (response_.has_workers()) request_.set_worker_set_version(response_.workers().version());
    if (response_.has_routing()) {
      const uint64_t wanted = shared_->epoch, epoch = response_.routing().epoch();
      for (uint64_t newest = shared_->newest; newest < epoch && !shared_->newest.compare_exchange_weak(newest, epoch);) {
      }
      if (request_.routing_epoch() < wanted && epoch >= wanted) ++shared_->routed;
      request_.set_routing_epoch(epoch);
    }
    for (const Command& command : response_.commands()) {
      request_.set_last_command(std::max(request_.last_command(), command.id()));
      request_.add_results()->set_id(command.id());
      if (command.has_open_tables()) ++shared_->tables;
    }
  }

  Shared* const shared_;
  Stub* const stub_;
  const Role role_;
  const int number_;
  double interval_ms_ = 0;
  bool has_joined_ = false;
  std::atomic<bool> silent_{false}, beating_{true};
  JoinRequest join_;
  JoinResponse joined_;
  HeartbeatRequest request_;
  HeartbeatResponse response_;
  std::unique_ptr<grpc::ClientContext> context_;
  Clock::time_point sent_;
  std::vector<float> late_ms_;
};

float Quantile(std::vector<float>* values, double q) {
  if (values->empty()) return -1;
  const auto at = values->begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(values->size() - 1));
  std::nth_element(values->begin(), at, values->end());
  return *at;
}

struct Stage {
  explicit Stage(int pid) : pid_(pid), cpu_(CpuOf(pid)) {}
  double seconds() const { return MsSince(begin_) / 1000; }
  double cpu() const { return CpuOf(pid_) - cpu_; }

 private:
  const int pid_;
  const double cpu_;
  const Clock::time_point begin_ = Clock::now();
};

int Run(const std::string& address, int pid, size_t servers, size_t workers, size_t connections, double seconds) {
  Shared shared;
  std::vector<std::unique_ptr<Stub>> stubs;
  for (size_t i = 0; i < connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    stubs.push_back(SchedulerService::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments)));
  }
  std::vector<std::unique_ptr<Member>> members;
  for (size_t i = 0; i < servers + workers; ++i) {
    const bool server = i < servers;
    members.push_back(std::make_unique<Member>(&shared, stubs[i % connections].get(), server ? SERVER : WORKER,
                                               static_cast<int>(server ? i : i - servers)));
  }
  JsonObject out;
  out.Integer("servers", static_cast<int64_t>(servers)).Integer("workers", static_cast<int64_t>(workers)).Integer("connections", static_cast<int64_t>(connections));

  const Stage joining(pid);
  for (const auto& member : members) member->Join();
  TG_CHECK(shared.Await("joined", shared.joined, members.size(), 120));
  out.Number("join_s", joining.seconds()).Number("join_cpu_s", joining.cpu());

  const Stage opening(pid);
  for (size_t i = servers; !members[i]->DeclareTables(); ++i) TG_CHECK(i + 1 < members.size()) << "no worker is left";
  TG_CHECK(shared.Await("opened their tables", shared.reported, servers, 120));
  TG_CHECK(shared.Await("have the table", shared.routed, members.size(), 120));
  out.Number("tables_s", opening.seconds()).Number("tables_cpu_s", opening.cpu());
  std::this_thread::sleep_for(std::chrono::seconds(2));

  const uint64_t before = shared.answered;
  const Stage calm(pid), own(getpid());
  shared.measuring = true;
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  shared.measuring = false;
  const double elapsed = calm.seconds();
  out.Number("heartbeats_per_second", static_cast<double>(shared.answered - before) / elapsed)
      .Number("cpu_seconds_per_second", calm.cpu() / elapsed)
      .Number("load_cpu_seconds_per_second", own.cpu() / elapsed);

  const Stage failover(pid);
  shared.routed = 0;
  shared.epoch = shared.newest + 1;
  members[0]->FallSilent();
  while (members[0]->heartbeats()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto silent = Clock::now();
  TG_CHECK(shared.Await("have a table without the silent server", shared.routed, 1, 60));
  out.Number("silent_ms", MsSince(silent));
  const auto first = Clock::now();
  TG_CHECK(shared.Await("have a table without the silent server", shared.routed, members.size() - 1, 120));
  out.Number("spread_ms", MsSince(first)).Number("failover_cpu_s", failover.cpu());

  shared.stopping = true;
  while (shared.open > 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::vector<float> late;
  for (const auto& member : members) late.insert(late.end(), member->late_ms().begin(), member->late_ms().end());
  out.Number("late_ms_p50", Quantile(&late, .5)).Number("late_ms_p99", Quantile(&late, .99)).Integer("failed", static_cast<int64_t>(shared.failed)).Integer("joined_again", static_cast<int64_t>(shared.rejoined));
  std::cout << out.Build() << std::endl;
  return shared.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  if (argc != 7) {
    std::cerr << "usage: scheduler_load ADDRESS PID SERVERS WORKERS CONNECTIONS SECONDS\n";
    return 2;
  }
  const auto count = [argv](int i) { return std::strtoul(argv[i], nullptr, 10); };
  return tidegate::Run(argv[1], std::atoi(argv[2]), count(3), count(4), count(5), std::atof(argv[6]));
}
