#include "tests/simulation/simulation.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "tests/simulation/checker.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/sim_scheduler.h"
#include "tests/simulation/sim_server.h"
#include "tests/simulation/sim_worker.h"

namespace tidegate::simulation {
namespace {

// From the end of the last fault to the end of the job, at most.
constexpr TimeMs kProgressMs = 60'000;
constexpr uint64_t kEventsMax = 3'000'000;
constexpr int kWorkersMax = 24;
constexpr size_t kServersMax = 8;
constexpr TimeMs kResetMs = 5;      // until a crash is seen at the other ends of its streams
constexpr TimeMs kRecoverMs = 800;
constexpr TimeMs kDeposedMs = 300;  // until a scheduler knows that another leads
constexpr TimeMs kCutDownMs = 500;

class Simulation {
 public:
  Simulation(const Plan& plan, SimDisk* disk, std::FILE* out)
      : plan_(plan),
        trace_(out),
        network_(&loop_, plan.seed, plan.network, &trace_),
        random_(Mix64(plan.seed ^ 0x73696d)) {
    world_.plan = &plan_;
    world_.loop = &loop_;
    world_.network = &network_;
    world_.trace = &trace_;
    world_.checkers = &checkers_;
    world_.report = &report_;
    world_.disk = disk;
    AddCheckers(&plan_, &report_, disk, &checkers_);
    for (int id : {1, 2}) schedulers_.push_back(std::make_unique<SimScheduler>(&world_, id, &store_));
    world_.scheduler = schedulers_[0].get();
    for (uint32_t i = 0; i < plan_.servers; ++i) NewServer();
  }

  Outcome Run() {
    schedulers_[0]->Boot();
    for (auto& server : servers_) {
      loop_.At(static_cast<TimeMs>(random_.Below(20)), [s = server.get()] { s->Boot(); });
    }
    for (uint32_t i = 0; i < plan_.workers; ++i) AddWorker(static_cast<TimeMs>(random_.Below(20)));
    TimeMs deadline = plan_.network.quiet_at;
    for (const Fault& fault : plan_.faults) {
      loop_.At(fault.at, [this, fault] { Inject(fault); });
      deadline = std::max(deadline, fault.at + fault.length_ms);
    }
    for (TimeMs at : plan_.checkpoints_asked) {
      loop_.At(at, [this] { scheduler()->AskForCheckpoint(); });
    }
    SendOldPushes();
    deadline += kProgressMs;
    while (!report_.failed() && !world_.lost && !Ended() && loop_.RunOne()) {
      if (plan_.crash_all_at > 0 && loop_.now() >= plan_.crash_all_at) return Result();
      if (loop_.now() > deadline || loop_.ran() > kEventsMax) {
        report_.Fail("progress", loop_.now(), absl::StrCat("the job has not ended: ", Why()));
      }
    }
    if (world_.lost) return Result();
    if (!Ended()) report_.Fail("progress", loop_.now(), absl::StrCat("nothing is left that could happen: ", Why()));
    if (!report_.failed()) checkers_.Tell(&Checker::OnEnd, loop_.now());
    return Result();
  }

 private:
  // Who leads, or led last.
  SimScheduler* scheduler() const { return world_.scheduler; }

  SimServer* NewServer() {
    const int index = static_cast<int>(servers_.size());
    servers_.push_back(std::make_unique<SimServer>(&world_, 10 + index, index));
    world_.servers.push_back(servers_.back().get());
    return servers_.back().get();
  }

  void SendOldPushes() {
    for (const std::string& bytes : world_.disk->old_pushes) {
      if (plan_.generation == 1) return;
      SimServer* server = servers_[random_.Below(servers_.size())].get();
      loop_.At(static_cast<TimeMs>(50 + random_.Below(1000)), [server, bytes] { server->ReceiveOld(bytes); });
    }
  }

  void AddWorker(TimeMs at) {
    if (workers_.size() >= kWorkersMax) return;
    workers_.push_back(std::make_unique<SimWorker>(&world_, 100 + static_cast<int>(workers_.size())));
    ++booting_;
    loop_.At(at, [this, w = workers_.back().get()] {
      --booting_;
      w->Boot();
    });
  }

  SimWorker* TargetOf(const Fault& fault) const {
    std::vector<SimWorker*> running;
    for (const auto& worker : workers_) {
      if (worker->up() && !worker->ended()) running.push_back(worker.get());
    }
    return running.empty() ? nullptr : running[fault.target % running.size()];
  }

  // Incarnations of its own invention: a worker that counts would hold up all others for ever.
  void LetStrangerIn(const Fault& fault) {
    const Incarnation incarnation = 1000 + fault.target;
    const wire::Stamp stamp{1, 1, incarnation};
    const auto send = [&](uint64_t number, const wire::Request& request) {
      servers_[fault.server % servers_.size()]->Receive(
          9000, wire::Flatten(wire::EncodeStreamRequest(number, request)), [](auto) {});
    };
    wire::ClockRequest clock;
    clock.stamp = stamp;
    clock.kind = wire::ClockRequest::Kind::kHello;
    send(1, clock);
    clock.order = 1;
    clock.kind = wire::ClockRequest::Kind::kTick;
    send(2, clock);
    wire::PullRequest pull;
    pull.stamp = stamp;
    pull.clock = 100;
    pull.bound = 99;
    send(3, pull);
  }

  // ---- servers ----

  bool IsSafe(const SimServer& server) const {
    const auto unsafe = unsafe_until_.find(server.id());
    return server.up() && !server.paused() && (unsafe == unsafe_until_.end() || unsafe->second < loop_.now());
  }

  // Whether every shard has a copy in sync on a healthy server besides this one, by what the scheduler has stored and by what it is
  // about to store; and whether it has not just heard that this one lives, and counts on it.
  bool MaySpare(const SimServer& victim) const {
    const SchedulerState state = scheduler()->stored();
    const ClusterState* core = scheduler()->core();
    if (state.routing().epoch() == 0 || state.tables().empty()) return false;
    if (core != nullptr && core->OldestProbe() != 0 && victim.probe() >= core->OldestProbe()) return false;
    return HasCopiesBeside(victim, state.routing()) && (core == nullptr || HasCopiesBeside(victim, core->Durable().routing()));
  }
  bool HasCopiesBeside(const SimServer& victim, const RoutingTable& table) const {
    std::set<Incarnation> healthy;
    for (const auto& server : servers_) {
      // One that has not joined yet has none.
      if (server.get() != &victim && IsSafe(*server) && server->incarnation() != 0) healthy.insert(server->incarnation());
    }
    const int slots = static_cast<int>(table.backup_slots());
    for (int shard = 0; shard < table.primary_size(); ++shard) {
      std::set<Incarnation> copies(table.backups().begin() + shard * slots, table.backups().begin() + (shard + 1) * slots);
      copies.insert(table.primary(shard));
      if (std::none_of(copies.begin(), copies.end(), [&](Incarnation copy) { return healthy.contains(copy); })) return false;
    }
    return true;
  }

  void LoseShard(const Fault& fault) {
    const SchedulerState state = scheduler()->stored();
    const RoutingTable& table = state.routing();
    if (table.epoch() == 0 || state.tables().empty() || state.phase() >= FINISHED) return;
    const int shard = static_cast<int>(fault.target % plan_.shards);
    const int slots = static_cast<int>(table.backup_slots());
    std::set<Incarnation> copies(table.backups().begin() + shard * slots, table.backups().begin() + (shard + 1) * slots);
    copies.insert(table.primary(shard));
    trace_.Line(loop_.now(), NameOf(fault.kind), {{"shard", shard}});
    world_.loss_expected = true;
    for (auto& server : servers_) {
      if (!copies.contains(server->incarnation()) || !server->up()) continue;
      server->Resume();
      server->Crash();
      TellOfCrash(server.get());
      loop_.At(loop_.now() + fault.length_ms, [s = server.get()] { s->Boot(); });
    }
  }

  void InjectInServer(const Fault& fault) {
    if (world_.loss_expected) return;
    if (fault.kind == Fault::kLoseShard) return LoseShard(fault);
    SimServer* server = servers_[fault.server % servers_.size()].get();
    const TimeMs end = loop_.now() + fault.length_ms;
    if (fault.kind == Fault::kServerJoin) {
      if (servers_.size() >= kServersMax) return;
      trace_.Line(loop_.now(), NameOf(fault.kind), {{"of", static_cast<int64_t>(servers_.size())}});
      return NewServer()->Boot();
    }
    if (fault.kind == Fault::kCutServers) {
      const SimServer* other = servers_[fault.target % servers_.size()].get();
      if (server == other) return;
      trace_.Line(loop_.now(), NameOf(fault.kind), {{"of", server->id()}, {"and", other->id()}});
      if (fault.moment != 2) network_.CutOneWay(other->id(), server->id(), end);
      if (fault.moment != 1) network_.CutOneWay(server->id(), other->id(), end);
      return;
    }
    if (fault.kind == Fault::kServerDrain) return Drain(server);
    if (!IsSafe(*server) || server->ended() || !MaySpare(*server)) return;
    trace_.Line(loop_.now(), NameOf(fault.kind), {{"of", server->id()}});
    // Afterwards the scheduler may take a while to hear of it again.
    unsafe_until_[server->id()] = end + kRecoverMs;
    switch (fault.kind) {
      case Fault::kServerCrash:
        server->Crash();
        loop_.At(loop_.now() + kResetMs, [this, server] { TellOfCrash(server); });
        return loop_.At(end, [server] { server->Boot(); });
      case Fault::kServerPause:
        server->Pause();
        return ResumeAt(end, server);
      default:
        return network_.Cut(server->id(), scheduler()->id(), end);
    }
  }

  // Unless it has another life by then.
  void ResumeAt(TimeMs at, Process* process) {
    loop_.At(at, [process, life = process->life()] {
      if (process->life() == life) process->Resume();
    });
  }

  void ChangeScheduler(uint32_t moment, TimeMs end) {
    SimScheduler* old = scheduler();
    SimScheduler* next = schedulers_[old == schedulers_[0].get() ? 1 : 0].get();
    if (moment == 0) old->Crash();
    if (moment == 1) {
      old->Pause();
      ResumeAt(end, old);
    }
    next->TakeOver();
    // It hears that its lease has run out.
    old->After(kDeposedMs, [old] {
      if (!old->leads()) old->Crash();
    });
  }

  // ---- drains ----

  void Drain(SimServer* server) {
    if (!server->up() || server->ended() || server->epoch() == 0) return;
    trace_.Line(loop_.now(), "server_drain", {{"of", server->id()}});
    scheduler()->Drain(server->incarnation());
    world_.cut_drain = [this, server] {
      if (plan_.cut_at_step > 0) CutDrain(server);
    };
  }

  void CutDrain(SimServer* drained) {
    if (plan_.cut_victim == 2) {
      scheduler()->Crash();
      return loop_.At(loop_.now() + kCutDownMs, [s = scheduler()] { s->Boot(); });
    }
    SimServer* victim = drained;
    if (plan_.cut_victim == 1) {
      victim = nullptr;
      const SchedulerState state = scheduler()->stored();
      for (const uint64_t joining : state.routing().joining()) {
        for (auto& server : servers_) {
          if (joining != 0 && server->incarnation() == joining) victim = server.get();
        }
      }
    }
    if (victim == nullptr || !victim->up() || victim->ended()) return;
    trace_.Line(loop_.now(), "cut", {{"of", victim->id()}});
    victim->Crash();
    loop_.At(loop_.now() + kResetMs, [this, victim] { TellOfCrash(victim); });
    loop_.At(loop_.now() + kCutDownMs, [victim] { victim->Boot(); });
  }

  void TellOfCrash(const SimServer* server) {
    const int index = server->id() - 10;
    for (auto& worker : workers_) worker->LosePeer(index);
    for (auto& other : servers_) {
      if (other.get() != server && other->up()) other->LosePeer(server->lost());
    }
  }

  void Inject(const Fault& fault) {
    if (fault.OfServer()) return InjectInServer(fault);
    if (fault.kind == Fault::kStranger) {
      trace_.Line(loop_.now(), NameOf(fault.kind), {{"at", fault.server}});
      return LetStrangerIn(fault);
    }
    SimWorker* worker = TargetOf(fault);
    SimServer* server = servers_[fault.server % servers_.size()].get();
    const bool of_scheduler = fault.kind == Fault::kSchedulerCrash || fault.kind == Fault::kSchedulerPause ||
                              fault.kind == Fault::kSchedulerChange || fault.kind == Fault::kSlowDisk;
    SimScheduler* scheduler = this->scheduler();
    if (of_scheduler ? scheduler->paused() || !scheduler->up() : worker == nullptr && fault.kind != Fault::kWorkerJoin) {
      return;
    }
    const TimeMs end = loop_.now() + fault.length_ms;
    trace_.Line(loop_.now(), NameOf(fault.kind), {{"of", worker != nullptr ? worker->id() : 0}});
    switch (fault.kind) {
      case Fault::kWorkerCrash:
        worker->Crash();
        for (auto& s : servers_) s->After(5, [s = s.get(), id = worker->id()] { s->Disconnect(id); });
        return AddWorker(end);
      case Fault::kWorkerPause:
        worker->Pause();
        return ResumeAt(end, worker);
      case Fault::kWorkerJoin:
        return AddWorker(loop_.now());
      case Fault::kSchedulerCrash:
        if (fault.moment != 0) return scheduler->CrashAtPersist(fault.moment == 1, fault.length_ms);
        scheduler->Crash();
        return loop_.At(end, [scheduler] { scheduler->Boot(); });
      case Fault::kSchedulerPause:
        scheduler->Pause();
        return ResumeAt(end, scheduler);
      case Fault::kSchedulerChange:
        return ChangeScheduler(fault.moment, end);
      case Fault::kSlowDisk:
        return scheduler->SlowDisk(fault.length_ms);
      case Fault::kCutWorkerServer:
        return network_.Cut(worker->id(), server->id(), end);
      case Fault::kCutWorkerScheduler:
        return network_.Cut(worker->id(), scheduler->id(), end);
      case Fault::kDisconnect:
        return worker->Disconnect(static_cast<int>(fault.server % servers_.size()));
      default:
        return;
    }
  }

  bool Ended() const {
    return booting_ == 0 &&
           std::all_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->ended(); }) &&
           std::all_of(servers_.begin(), servers_.end(), [](const auto& s) { return s->ended(); });
  }

  std::string Why() const {
    const SchedulerState state = scheduler()->stored();
    std::string out = absl::StrCat("phase ", Phase_Name(state.phase()), ", epoch ", state.epoch(), ", ",
                                   state.current().done_size(), " splits done, ",
                                   state.current().leases_size(), " leased; not ended:");
    for (const auto& w : workers_) {
      if (!w->ended()) absl::StrAppend(&out, " worker ", w->incarnation());
    }
    for (const auto& s : servers_) {
      if (!s->ended()) absl::StrAppend(&out, " server ", s->incarnation());
    }
    return out;
  }

  Outcome Result() const {
    Outcome out;
    out.ok = !report_.failed();
    out.checker = report_.checker();
    out.text = report_.text();
    out.at = out.ok ? loop_.now() : report_.at();
    out.trace_hash = trace_.hash();
    out.events = loop_.ran();
    out.digest = Digest();
    out.sums = Sums();
    out.drain_steps = world_.drain_steps;
    return out;
  }

  // The first copy of a shard that is there, its primary before others; null: none.
  const SimServer* HolderOf(const RoutingTable& table, int shard) const {
    std::vector<Incarnation> copies = {table.primary(shard)};
    const int slots = static_cast<int>(table.backup_slots());
    for (int slot = 0; slot < slots; ++slot) copies.push_back(table.backups(shard * slots + slot));
    for (Incarnation copy : copies) {
      for (const auto& server : servers_) {
        if (server->incarnation() == copy && server->strands() > 0) return server.get();
      }
    }
    return nullptr;
  }

  uint64_t Sums() const {
    const SchedulerState state = scheduler()->stored();
    int log2_shards = 0;
    while ((1 << log2_shards) < state.routing().primary_size()) ++log2_shards;
    uint64_t sums = 0;
    for (Key key = 0; key < kKeys && state.routing().primary_size() > 0; ++key) {
      const int shard = static_cast<int>(ShardOfHash(PlacementHash(kSparse, key), log2_shards));
      const SimServer* holder = HolderOf(state.routing(), shard);
      if (holder == nullptr) return 0;
      for (const ShardGroup* group : holder->groups()) {
        if (group->tables() == 0 || group->table(kSparse).LocalOfKey(key) == TableGroup::kNotLocal) continue;
        float values[kSparseWidth];
        group->table(kSparse).Gather(PackedSpan<Key>(&key, 1), {}, FLOAT32, {}, std::as_writable_bytes(std::span(values)).data());
        for (uint32_t j = 0; j < kSumDim; ++j) sums = Mix64(sums ^ static_cast<uint64_t>(values[j]));
      }
    }
    return sums;
  }

  uint64_t Digest() const {
    uint64_t sum = 0;
    if (!plan_.replicated()) {
      for (const auto& server : servers_) sum += server->Digest();
      return sum;
    }
    const SchedulerState state = scheduler()->stored();
    for (int shard = 0; shard < state.routing().primary_size(); ++shard) {
      const SimServer* holder = HolderOf(state.routing(), shard);  // the primary may have died just before the end
      if (holder != nullptr) sum += holder->ShardDigest(static_cast<ShardId>(shard));
    }
    return sum;
  }

  const Plan plan_;
  EventLoop loop_;
  Trace trace_;
  Network network_;
  Random random_;
  Report report_;
  Checkers checkers_;
  World world_;
  SimStore store_;
  std::vector<std::unique_ptr<SimScheduler>> schedulers_;  // the second is a standby
  std::vector<std::unique_ptr<SimServer>> servers_;
  std::vector<std::unique_ptr<SimWorker>> workers_;
  int booting_ = 0;
  std::map<int, TimeMs> unsafe_until_;  // by server process
};

}  // namespace

// What the newest checkpoint calls done.
void BeginFrom(const Plan& plan, SimDisk* disk) {
  if (disk->complete.empty()) return;
  const JobProgress& progress = disk->complete.rbegin()->second.manifest.progress();
  const uint32_t closed = progress.phase() == TRAINING ? progress.epoch() - 1 : progress.epoch();
  const auto add = [&](uint32_t epoch, uint64_t begin, uint64_t end) {
    for (uint64_t row = begin; row < std::min(plan.rows, end); ++row) disk->began_done.insert({epoch, row});
  };
  for (uint32_t epoch = 1; epoch <= closed; ++epoch) add(epoch, 0, plan.rows);
  if (progress.phase() != TRAINING) return;
  for (uint32_t split : progress.current().done()) {
    add(progress.epoch(), split * plan.rows_per_split, (split + 1) * plan.rows_per_split);
  }
  if (plan.synchronous) add(progress.epoch(), 0, progress.current().next_step() * plan.global_batch);
}

Outcome Run(const Plan& plan, std::FILE* trace) {
  SimDisk disk;
  Outcome outcome = Simulation(plan, &disk, trace).Run();
  if (plan.crash_all_at == 0 || !outcome.ok) return outcome;
  if (!disk.complete.empty() && disk.complete.rbegin()->second.manifest.progress().last_epoch()) return outcome;
  BeginFrom(plan, &disk);
  const uint64_t first_hash = outcome.trace_hash;
  outcome = Simulation(MakeResumePlan(plan), &disk, trace).Run();
  outcome.trace_hash = Mix64(outcome.trace_hash ^ Mix64(first_hash));
  return outcome;
}

}  // namespace tidegate::simulation
