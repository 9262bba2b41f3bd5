#include "cli/chaos/accounting_worker.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/chaos/accounts.h"
#include "common/clock.h"
#include "common/random.h"
#include "common/routing_table.h"
#include "common/rpc/member_link.h"
#include "common/stable_hash.h"
#include "worker/client/rpc/cluster_client.h"

namespace tidegate::cli {
namespace {

constexpr std::chrono::milliseconds kTick{2};

std::string Named(int worker, const std::string& what) { return absl::StrCat("accounting worker ", worker, ": ", what); }

}  // namespace

class AccountingWorker::Impl {
 public:
  explicit Impl(Options options) : options_(std::move(options)), random_(Mix64(options_.seed + static_cast<uint64_t>(options_.number))) {}
  ~Impl() { Stop(); }

  absl::Status Start();
  absl::Status Health() const {
    std::lock_guard lock(mutex_);
    return health_;
  }
  std::vector<Acknowledgement> TakeAcknowledgements() {
    std::lock_guard lock(mutex_);
    return std::exchange(acknowledgements_, {});
  }
  Counts counts() const {
    std::lock_guard lock(mutex_);
    return counts_;
  }
  absl::Status Drain(int timeout_s);
  absl::Status Audit(int timeout_s);
  void Stop();

 private:
  // An account and what is under way of it.
  struct Line {
    explicit Line(Account a) : account(std::move(a)) {}
    Account account;
    Account::Batch batch;     // outstanding
    std::vector<float> rows;  // of a read under way
    bool busy = false;
    TimeMs due = 0;
  };

  void Fail(absl::Status status) {
    std::lock_guard lock(mutex_);
    if (health_.ok()) health_ = std::move(status);
    changed_.notify_all();
  }
  MemberLink::Callbacks Callbacks();
  absl::Status WaitFor(const char* what, int timeout_s, const std::function<bool()>& done);
  void Run();
  void Push(Line* line);
  void Pull(Line* line);

  const Options options_;
  const RealClock clock_;
  std::unique_ptr<MemberLink> link_;
  std::unique_ptr<ClusterClient> client_;
  std::thread thread_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  absl::Status health_;
  std::shared_ptr<const Routing> routing_;
  std::vector<std::unique_ptr<Line>> lines_;
  Random random_;
  Clock step_ = 0;
  bool draining_ = false;
  bool stopped_ = false;
  std::vector<Acknowledgement> acknowledgements_;
  Counts counts_;
};

MemberLink::Callbacks AccountingWorker::Impl::Callbacks() {
  MemberLink::Callbacks callbacks;
  callbacks.routing = [this](const RoutingTable& table) {
    auto routing = Routing::FromProto(table);
    if (!routing.ok()) return Fail(routing.status());
    auto shared = std::make_shared<const Routing>(*std::move(routing));
    ClusterClient* client;
    {
      std::lock_guard lock(mutex_);
      routing_ = shared;
      client = client_.get();
      changed_.notify_all();
    }
    if (client != nullptr) client->SetRouting(shared);
  };
  callbacks.fill_heartbeat = [this](HeartbeatRequest* request) {
    ClusterClient* client;
    {
      std::lock_guard lock(mutex_);
      client = client_.get();
    }
    if (client == nullptr) return;
    for (Incarnation server : client->UnreachableServers()) request->add_unreachable(server);
  };
  callbacks.phase = [this](Phase phase, const std::string& message) {
    if (phase == FAILED) Fail(absl::AbortedError("the job failed: " + message));
  };
  callbacks.lost = [this](const std::string& why) { Fail(absl::UnavailableError(why)); };
  callbacks.rejoin = [this] {
    Fail(absl::AbortedError(Named(options_.number, "the scheduler removed it: no sign of life reached it for a lease")));
  };
  return callbacks;
}

absl::Status AccountingWorker::Impl::WaitFor(const char* what, int timeout_s, const std::function<bool()>& done) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::seconds(timeout_s), [&] { return done() || !health_.ok(); });
  if (!health_.ok()) return health_;
  if (done()) return absl::OkStatus();
  return absl::DeadlineExceededError(Named(options_.number, absl::StrCat("waited ", timeout_s, " s for ", what)));
}

absl::Status AccountingWorker::Impl::Start() {
  MemberLink::Options link;
  link.scheduler = options_.scheduler;
  link.role = WORKER;
  link.name = absl::StrCat("accounting/", options_.number);
  link.join_timeout_s = options_.start_timeout_s;
  link_ = std::make_unique<MemberLink>(link, Callbacks());
  if (absl::Status s = link_->Join(); !s.ok()) return s;
  link_->Start();
  if (absl::Status s = link_->DeclareTables({AccountsSpec()}); !s.ok()) return s;
  if (absl::Status s = WaitFor("the cluster's routing", options_.start_timeout_s, [this] { return routing_ != nullptr; }); !s.ok()) return s;

  ClusterClient::Options client;
  client.tracker.generation = link_->membership().generation;
  client.tracker.incarnation = link_->membership().incarnation;
  client.want_routing = [this](Epoch) { link_->HeartbeatNow(); };
  client.lost_server = [this] { link_->HeartbeatNow(); };
  auto made = std::make_unique<ClusterClient>(client);
  std::shared_ptr<const Routing> routing;
  {
    std::lock_guard lock(mutex_);
    routing = routing_;
    client_ = std::move(made);
    const TimeMs now = clock_.NowMs();
    for (ShardId shard = 0; shard < routing->shards(); ++shard) {
      lines_.push_back(std::make_unique<Line>(
          Account(options_.number, shard, routing->log2_shards(), options_.keys_per_shard)));
      lines_.back()->due = now + static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(options_.interval_ms)));
    }
  }
  client_->SetRouting(routing);
  std::optional<absl::Status> announced;
  client_->Announce([&](absl::StatusOr<Clock> clock) {
    std::lock_guard lock(mutex_);
    announced = clock.status();
    if (clock.ok()) step_ = *clock;
    changed_.notify_all();
  });
  absl::Status status = WaitFor("the servers to answer Hello", options_.start_timeout_s, [&] { return announced.has_value(); });
  if (!announced.has_value()) client_->Stop();  // nobody writes to `announced` any more
  if (status.ok()) status = *announced;
  if (!status.ok()) return status;
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void AccountingWorker::Impl::Run() {
  std::unique_lock lock(mutex_);
  while (!stopped_ && health_.ok()) {
    const TimeMs now = clock_.NowMs();
    for (const auto& line : lines_) {
      if (draining_ || line->busy || line->due > now) continue;
      line->due = now + options_.interval_ms;
      line->busy = true;
      const uint64_t pushes = line->account.pushes();
      const bool reads = pushes > 0 && pushes % static_cast<uint64_t>(options_.check_every) == 0 && line->rows.empty();
      if (!reads) line->batch = line->account.NextPush(&random_);
      lock.unlock();
      reads ? Pull(line.get()) : Push(line.get());
      lock.lock();
    }
    changed_.wait_for(lock, kTick, [this] { return stopped_; });
  }
}

void AccountingWorker::Impl::Push(Line* line) {
  Clock clock;
  {
    std::lock_guard lock(mutex_);
    clock = step_++;
  }
  const TablePush push{kAccountsTable, line->batch.keys, line->batch.gradients, {}};
  client_->Push(clock, 1.0, std::span(&push, 1), [this, line](const ParameterClient::PushResult& result) {
    const absl::Status& status = result.status;
    if (absl::IsCancelled(status)) return;
    std::lock_guard lock(mutex_);
    line->busy = false;
    if (status.ok()) {
      line->account.Acknowledged();
      line->rows.clear();
      ++counts_.pushes;
      acknowledgements_.push_back({clock_.NowMs(), line->account.shard()});
    } else if (health_.ok()) {
      health_ = absl::Status(status.code(), Named(options_.number, absl::StrCat("a push to shard ", line->account.shard(), " ended with ",
                                                                                std::string(status.message()))));
    }
    changed_.notify_all();
  });
  client_->EndClock(clock);
}

void AccountingWorker::Impl::Pull(Line* line) {
  line->rows.assign(line->account.keys().size() * kAccountDim, 0);
  const TablePull pull{kAccountsTable, line->account.keys(), line->rows};
  client_->PullForEvaluation(std::span(&pull, 1), [this, line](ParameterClient::PullResult result) {
    if (absl::IsCancelled(result.status)) return;
    std::lock_guard lock(mutex_);
    line->busy = false;
    ++counts_.checks;
    absl::Status status = result.status;
    if (status.ok()) {
      if (options_.tail_may_be_lost) counts_.lost += line->account.WriteOff(line->rows);
      const std::string difference = line->account.Check(line->rows);
      if (!difference.empty()) status = absl::DataLossError(difference);
    }
    if (!status.ok() && health_.ok()) health_ = absl::Status(status.code(), Named(options_.number, std::string(status.message())));
    changed_.notify_all();
  });
}

absl::Status AccountingWorker::Impl::Drain(int timeout_s) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const Line* busy = nullptr;
  const bool idle = changed_.wait_for(lock, std::chrono::seconds(timeout_s), [&] {
    busy = nullptr;
    for (const auto& line : lines_) {
      if (line->busy) busy = line.get();
    }
    return busy == nullptr || !health_.ok();
  });
  if (!health_.ok()) return health_;
  if (idle) return absl::OkStatus();
  return absl::DeadlineExceededError(
      Named(options_.number, absl::StrCat("shard ", busy->account.shard(), " did not answer within ", timeout_s, " s")));
}

absl::Status AccountingWorker::Impl::Audit(int timeout_s) {
  {
    std::lock_guard lock(mutex_);
    for (const auto& line : lines_) line->busy = true;
  }
  for (const auto& line : lines_) Pull(line.get());
  return Drain(timeout_s);
}

void AccountingWorker::Impl::Stop() {
  {
    std::lock_guard lock(mutex_);
    if (stopped_) return;
    stopped_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  if (client_ != nullptr) client_->Stop();
  if (link_ != nullptr) {
    link_->Leave("the accounts are closed").IgnoreError();
    link_->Stop();
  }
}

AccountingWorker::AccountingWorker(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
AccountingWorker::~AccountingWorker() = default;
absl::Status AccountingWorker::Start() { return impl_->Start(); }
absl::Status AccountingWorker::Health() const { return impl_->Health(); }
std::vector<AccountingWorker::Acknowledgement> AccountingWorker::TakeAcknowledgements() { return impl_->TakeAcknowledgements(); }
AccountingWorker::Counts AccountingWorker::counts() const { return impl_->counts(); }
absl::Status AccountingWorker::Drain(int timeout_s) { return impl_->Drain(timeout_s); }
absl::Status AccountingWorker::Audit(int timeout_s) { return impl_->Audit(timeout_s); }
void AccountingWorker::Stop() { impl_->Stop(); }

}  // namespace tidegate::cli
