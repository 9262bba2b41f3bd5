#include "worker/client/bench_load.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/routing_table.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {

constexpr int kRoutingTimeoutS = 30;

}  // namespace

double ClockSeconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

absl::StatusOr<clockid_t> CpuClockOf(pid_t process) {
  clockid_t clock;
  if (clock_getcpuclockid(process, &clock) != 0) return absl::InvalidArgumentError(absl::StrCat("no process ", process));
  return clock;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string BenchJob(const std::string& name, const std::string& cluster) {
  return absl::StrCat("name: \"", name, R"("
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
cluster { )", cluster, " }\n");
}

TableSpec BenchTable(TableId id, const char* name, uint32_t dim) {
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

std::vector<Key> DistinctKeys(Random* random, uint64_t vocabulary) {
  std::vector<Key> keys;
  while (keys.size() < kBenchBatchKeys) {
    while (keys.size() < kBenchBatchKeys) keys.push_back(Mix64(random->Below(vocabulary)));
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  }
  // Workers' keys come in the order of the data.
  for (size_t i = keys.size(); i > 1; --i) std::swap(keys[i - 1], keys[random->Below(i)]);
  return keys;
}

// ---- BenchWorker -----------------------------------------------------------

absl::StatusOr<std::unique_ptr<BenchWorker>> BenchWorker::Join(const std::string& scheduler,
                                                               const std::vector<TableSpec>& tables) {
  struct First {
    bool routed = false;
    std::promise<std::shared_ptr<const Routing>> routing;
  };
  auto first = std::make_shared<First>();
  std::unique_ptr<BenchWorker> worker(new BenchWorker());
  MemberLink::Options options;
  options.scheduler = scheduler;
  options.role = WORKER;
  options.name = "bench";
  MemberLink::Callbacks callbacks;
  callbacks.routing = [first](const RoutingTable& table) {
    auto routing = Routing::FromProto(table);
    if (!routing.ok() || std::exchange(first->routed, true)) return;
    first->routing.set_value(std::make_shared<const Routing>(*std::move(routing)));
  };
  worker->link_ = std::make_unique<MemberLink>(options, callbacks);
  if (absl::Status s = worker->link_->Join(); !s.ok()) return s;
  worker->link_->Start();
  if (absl::Status s = worker->link_->DeclareTables(tables); !s.ok()) return s;
  auto routing = first->routing.get_future();
  if (routing.wait_for(std::chrono::seconds(kRoutingTimeoutS)) != std::future_status::ready) {
    return absl::DeadlineExceededError(
        absl::StrCat("no routing table after ", kRoutingTimeoutS, " s: have the servers joined?"));
  }
  ClusterClient::Options client;
  client.tracker.generation = worker->link_->membership().generation;
  client.tracker.incarnation = worker->link_->membership().incarnation;
  worker->client_ = std::make_unique<ClusterClient>(client);
  worker->client_->SetRouting(routing.get());
  return worker;
}

void BenchWorker::Leave() {
  client_->Stop();
  link_->Leave("the benchmark is done").IgnoreError();
  link_->Stop();
}

// ---- BenchLoad -------------------------------------------------------------

absl::StatusOr<uint64_t> BenchLoad::Run(uint64_t calls, double seconds) {
  left_ = calls;
  ended_ = 0;
  deadline_ = ClockSeconds(CLOCK_MONOTONIC) + seconds;
  running_ = kBenchInFlight;
  for (int slot = 0; slot < kBenchInFlight; ++slot) Next(slot);
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [this] { return running_ == 0; });
  if (!status_.ok()) return status_;
  return ended_;
}

void BenchLoad::Next(int slot) {
  uint64_t i;
  {
    std::lock_guard lock(mutex_);
    if (left_ == 0 || !status_.ok() || ClockSeconds(CLOCK_MONOTONIC) >= deadline_) {
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

absl::Status FillTable(ClusterClient* client, TableId table, uint32_t width, uint64_t keys) {
  std::vector<std::vector<Key>> slots(kBenchInFlight, std::vector<Key>(kBenchBatchKeys));
  const std::vector<float> gradients(kBenchBatchKeys * width, 0.01f);
  BenchLoad load([&](int slot, uint64_t i, std::function<void(absl::Status)> done) {
    std::vector<Key>& mine = slots[static_cast<size_t>(slot)];
    for (size_t k = 0; k < kBenchBatchKeys; ++k) mine[k] = Mix64(i * kBenchBatchKeys + k);
    const TablePush push{table, mine, gradients, {}};
    client->Push(0, 1, {&push, 1}, [done = std::move(done)](ParameterClient::PushResult r) { done(r.status); });
  });
  return load.Run((keys + kBenchBatchKeys - 1) / kBenchBatchKeys, 1e9).status();
}

}  // namespace tidegate
