// A worker that pulls and pushes batches of random keys at an even pace, as a member of a job, and writes down how long
// each pull took as its caller saw it. Ends by SIGTERM. tests/benchmarks/elastic.py starts it.
//
// One line for each: "pull END_MS MICROSECONDS" or "push END_MS MICROSECONDS" (END_MS by CLOCK_MONOTONIC),
// "failed END_MS STATUS"; before them "ready".

#include <gflags/gflags.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/logging.h"
#include "common/random.h"
#include "common/routing_table.h"
#include "common/rpc/member_link.h"
#include "common/stable_hash.h"
#include "worker/client/rpc/cluster_client.h"

DEFINE_string(scheduler, "", "host:port");
DEFINE_string(name, "load", "");
DEFINE_uint64(rows, 1'000'000, "of the table; pushed once before \"ready\"");
DEFINE_uint64(dim, 16, "");
DEFINE_uint64(batch, 512, "keys");
DEFINE_int32(interval_ms, 5, "between two pulls, each followed by its push");
DEFINE_double(hot_share, 0, "of the keys: of the shards that --hot_server leads at the start, by Zipf");
DEFINE_uint64(hot_server, 0, "its number");

namespace tidegate {
namespace {

using std::chrono::steady_clock;

std::atomic<bool> g_stop{false};

int64_t MicrosNow() {
  return std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now().time_since_epoch()).count();
}

class LoadWorker {
 public:
  LoadWorker() : random_(7) {}

  int Run() {
    Join();
    Preload();
    std::cout << "ready" << std::endl;
    auto due = steady_clock::now();
    while (!g_stop) {
      due += std::chrono::milliseconds(FLAGS_interval_ms);
      if (due < steady_clock::now()) due = steady_clock::now();
      std::this_thread::sleep_until(due);
      const std::vector<Key> keys = NextKeys();
      std::vector<float> rows(keys.size() * FLAGS_dim);
      Timed("pull", [&](auto done) {
        const TablePull pull{0, keys, rows};
        client_->PullForEvaluation(std::span(&pull, 1), [done](ParameterClient::PullResult result) { done(result.status); });
      });
      Timed("push", [&](auto done) { Push(keys, done); });
    }
    client_->Stop();
    link_->Leave("the load ends").IgnoreError();
    link_->Stop();
    return 0;
  }

 private:
  void Join() {
    MemberLink::Options link;
    link.scheduler = FLAGS_scheduler;
    link.role = WORKER;
    link.name = FLAGS_name;
    link.join_timeout_s = 60;
    MemberLink::Callbacks callbacks;
    callbacks.routing = [this](const RoutingTable& table) {
      auto routing = Routing::FromProto(table);
      TG_CHECK(routing.ok());
      std::lock_guard lock(mutex_);
      routing_ = std::make_shared<const Routing>(*std::move(routing));
      if (client_ != nullptr) client_->SetRouting(routing_);
      changed_.notify_all();
    };
    callbacks.phase = [](Phase phase, const std::string&) {
      if (phase == FAILED || phase == FINISHED) g_stop = true;
    };
    callbacks.lost = [](const std::string&) { g_stop = true; };
    callbacks.rejoin = [] { g_stop = true; };
    link_ = std::make_unique<MemberLink>(link, callbacks);
    absl::Status joined = link_->Join();
    TG_CHECK(joined.ok()) << joined.message();
    link_->Start();
    TableSpec spec;
    spec.set_name("rows");
    PartSpec* part = spec.add_parts();
    part->set_name("v");
    part->set_dim(static_cast<uint32_t>(FLAGS_dim));
    part->mutable_optimizer()->mutable_sgd()->set_lr(1);
    joined = link_->DeclareTables({spec});
    TG_CHECK(joined.ok()) << joined.message();
    ClusterClient::Options client;
    client.tracker.generation = link_->membership().generation;
    client.tracker.incarnation = link_->membership().incarnation;
    client.want_routing = [this](Epoch) { link_->HeartbeatNow(); };
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return routing_ != nullptr || g_stop; });
    TG_CHECK(routing_ != nullptr) << "the job ended";
    client_ = std::make_unique<ClusterClient>(client);
    client_->SetRouting(routing_);
    PlanKeys();
    lock.unlock();
    Timed("announce", [&](auto done) {
      client_->Announce([this, done](absl::StatusOr<Clock> clock) {
        if (clock.ok()) clock_ = *clock;
        done(clock.status());
      });
    });
  }

  // Keys of the hot server's shards, by shard.
  void PlanKeys() {
    if (FLAGS_hot_share <= 0) return;
    std::vector<std::vector<Key>> by_shard(routing_->shards());
    for (Key key = 0; key < FLAGS_rows; ++key) by_shard[ShardOfHash(PlacementHash(0, key), routing_->log2_shards())].push_back(key);
    double sum = 0;
    for (ShardId shard = 0; shard < routing_->shards(); ++shard) {
      if (routing_->PrimaryOf(shard) != FLAGS_hot_server || by_shard[shard].empty()) continue;
      sum += 1.0 / static_cast<double>(4 + hot_keys_.size());
      hot_sums_.push_back(sum);
      hot_keys_.push_back(std::move(by_shard[shard]));
    }
    TG_CHECK(!hot_keys_.empty()) << "server " << FLAGS_hot_server << " leads nothing";
  }
  Key NextKey() {
    if (hot_keys_.empty() || random_.Unit() >= FLAGS_hot_share) return random_.Below(FLAGS_rows);
    const double at = random_.Unit() * hot_sums_.back();
    const auto shard = std::lower_bound(hot_sums_.begin(), hot_sums_.end(), at) - hot_sums_.begin();
    const std::vector<Key>& keys = hot_keys_[static_cast<size_t>(shard)];
    return keys[random_.Below(keys.size())];
  }
  std::vector<Key> NextKeys() {
    std::vector<Key> keys(FLAGS_batch);
    for (Key& key : keys) key = NextKey();
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
  }

  template <typename Done>
  void Push(const std::vector<Key>& keys, Done done) {
    const std::vector<float> gradients(keys.size() * FLAGS_dim, 1);
    const TablePush push{0, keys, gradients, {}};
    const Clock clock = clock_++;
    client_->Push(clock, 1.0, std::span(&push, 1), done);
    client_->EndClock(clock);
  }
  void Preload() {
    constexpr Key kAtOnce = 8192;
    for (Key begin = 0; begin < FLAGS_rows; begin += kAtOnce) {
      std::vector<Key> keys;
      for (Key key = begin; key < std::min<Key>(FLAGS_rows, begin + kAtOnce); ++key) keys.push_back(key);
      Timed("preload", [&](auto done) { Push(keys, done); });
    }
  }

  // Waits for it.
  void Timed(const char* what, const std::function<void(std::function<void(const absl::Status&)>)>& call) {
    const int64_t begin = MicrosNow();
    bool ended = false;
    absl::Status status;
    call([&](const absl::Status& s) {
      std::lock_guard lock(call_mutex_);
      ended = true;
      status = s;
      call_ended_.notify_all();
    });
    std::unique_lock lock(call_mutex_);
    call_ended_.wait(lock, [&] { return ended; });
    const int64_t end = MicrosNow();
    if (!status.ok()) {
      std::printf("failed %lld %s %s\n", static_cast<long long>(end / 1000), what, std::string(status.message()).c_str());
    } else {
      std::printf("%s %lld %lld\n", what, static_cast<long long>(end / 1000), static_cast<long long>(end - begin));
    }
    std::fflush(stdout);
  }

  Random random_;
  std::unique_ptr<MemberLink> link_;
  std::unique_ptr<ClusterClient> client_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const Routing> routing_;
  Clock clock_ = 0;
  std::vector<std::vector<Key>> hot_keys_;  // by hot shard
  std::vector<double> hot_sums_;            // of their weights, rising
  std::mutex call_mutex_;
  std::condition_variable call_ended_;
};

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  signal(SIGTERM, [](int) { tidegate::g_stop = true; });
  return tidegate::LoadWorker().Run();
}
