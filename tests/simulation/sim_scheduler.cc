#include "tests/simulation/sim_scheduler.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "scheduler/checkpoint_resume.h"
#include "tests/simulation/sim_disk.h"

namespace tidegate::simulation {
namespace {

constexpr TimeMs kTickMs = 50;
constexpr TimeMs kManifestMs = 5;
constexpr uint64_t kSlowMsMax = 250;

SchedulerOptions OptionsOf(const Plan& plan) {
  SchedulerOptions options;
  JobConfig& job = options.job;
  job.set_name("simulation");
  job.set_seed(plan.seed);
  TrainConfig* train = job.mutable_train();
  train->set_epochs(plan.epochs);
  train->set_global_batch(plan.global_batch);
  train->set_stall_timeout_s(plan.stall_timeout_s);
  if (plan.rate_changes) {
    train->mutable_plateau()->set_monitor("valid/click/calibration");
    train->mutable_plateau()->set_factor(0.5f);
    train->mutable_plateau()->set_patience(1);
  }
  job.mutable_cluster()->set_servers(plan.servers);
  job.mutable_cluster()->set_workers(plan.workers);
  job.mutable_cluster()->set_shards(plan.shards);
  if (plan.replicated()) {
    job.mutable_cluster()->set_replicas(plan.replicas);
    job.mutable_cluster()->set_durability(ClusterConfig::SYNC);
  }
  job.mutable_model()->add_task()->set_name("click");
  options.config_fingerprint = 77;
  options.synchronous = plan.synchronous;
  train->set_drop_slowest(plan.drop_slowest);
  options.bounded = plan.bounded;
  options.generation = plan.generation;
  train->mutable_checkpoint()->set_every_clocks(plan.checkpoint_every_clocks);
  for (uint64_t row = 0; row < plan.rows; row += plan.rows_per_split) {
    Split split;
    split.set_begin(row);
    split.set_end(std::min(plan.rows, row + plan.rows_per_split));
    options.train_splits.push_back(split);
    if (options.valid_splits.size() < plan.valid_splits) options.valid_splits.push_back(split);
  }
  if (plan.checkpoints) options.checkpoint_directory = "checkpoints";
  options.heartbeat_interval_ms = 200;
  options.lease_ms = plan.lease_ms;
  options.level_after_ms = plan.seed % 4 == 0 ? 10'000 : 200;
  options.sync_group_steps = 4;
  options.sync_group_steps_max = 16;
  return options;
}

}  // namespace

SimScheduler::SimScheduler(World* world, int id, SimStore* store)
    : Process(world->loop, id), world_(world), options_(OptionsOf(*world->plan)), store_(store),
      random_(Mix64(world->plan->seed * 64 + static_cast<uint64_t>(id))) {
  SetClock(world->SkewOf(id), world->DriftOf(id));
  const auto& complete = world->disk->complete;
  if (complete.empty() || !store->state.empty()) return;
  std::vector<StoredCheckpoint> stored;
  for (const auto& [number, order] : complete) stored.push_back({order.directory, order.manifest});
  const auto state = ResumeFrom(stored, options_);
  TG_CHECK(state.ok()) << state.status();
  store->state = state->SerializeAsString();
}

void SimScheduler::AskForCheckpoint() {
  if (core_ == nullptr || paused()) return;
  Receive(SaveCheckpointRequest(), 0, [](const absl::Status&, const SchedulerResponse&) {});
}

void SimScheduler::Drain(Incarnation server) {
  if (core_ == nullptr || paused()) return;
  DrainRequest request;
  request.set_server(absl::StrCat(server));
  Receive(request, 0, [](const absl::Status&, const SchedulerResponse&) {});
}

SchedulerState SimScheduler::stored() const {
  SchedulerState state;
  TG_CHECK(state.ParseFromString(store_->state));
  return state;
}

void SimScheduler::Boot() {
  if (!up() && !world_->scheduler->leads()) TakeOver();
}

void SimScheduler::TakeOver() {
  if (up()) Crash();
  Begin();
  leader_ = ++store_->leader;
  world_->scheduler = this;
  auto core = ClusterState::Create(options_, stored());
  TG_CHECK(core.ok()) << core.status();
  core_ = *std::move(core);
  const uint64_t term = stored().term() + 1;
  world_->trace->Line(world_->now(), "scheduler_up", {{"term", static_cast<int64_t>(term)}});
  world_->checkers->Tell(&Checker::OnSchedulerStart, world_->now(), term);
  Apply(core_->Start(now()));
  TickLoop();
}

void SimScheduler::Crash() {
  world_->trace->Line(world_->now(), "scheduler_down", {});
  // The write that is under way is done or not.
  if (commit_.writing() && leads() && random_.Below(2) == 0) {
    for (const Decision& decision : Land()) Note(decision);
  }
  Stop();
  core_.reset();
  commit_ = {};
  pending_.clear();
  armed_ = false;
}

void SimScheduler::TickLoop() {
  After(kTickMs, [this] {
    if (leads()) world_->checkers->Tell(&Checker::OnSchedulerTick, world_->now());
    Apply(core_->Tick(now()));
    if (up()) TickLoop();
  });
}

// A member of the newest decision, stored or not: what others say changes nothing any more.
bool SimScheduler::IsActive(Incarnation member) const {
  const auto& members = core_->Durable().members();
  return std::any_of(members.begin(), members.end(), [&](const MemberRecord& record) {
    return record.member().incarnation() == member && record.state() == MemberRecord::ACTIVE;
  });
}

void SimScheduler::Apply(SchedulerEffects effects) {
  const bool persist = effects.persist;
  commit_.Add({persist, world_->now(), persist ? core_->Durable() : SchedulerState(), std::move(effects)});
  if (commit_.NeedsWrite()) return Write();
  for (const Decision& decision : commit_.Take()) Carry(decision.effects);
}

void SimScheduler::Write() {
  commit_.BeginWrite();
  writing_ = core_->Durable().SerializeAsString();
  if (world_->now() >= slow_until_) return EndWrite();
  After(1 + static_cast<TimeMs>(random_.Below(kSlowMsMax)), [this] { EndWrite(); });
}

std::vector<SimScheduler::Decision> SimScheduler::Land() {
  store_->state = writing_;
  store_->writer = leader_;
  commit_.EndWrite(true);
  return commit_.Take();
}

void SimScheduler::EndWrite() {
  if (!leads()) {  // refused; it ends, and nothing of this is said
    world_->trace->Line(world_->now(), "deposed", {});
    return Crash();
  }
  const bool crash = std::exchange(armed_, false);
  if (crash && before_) {
    commit_.EndWrite(false);
  } else {
    for (const Decision& decision : Land()) {
      Note(decision);
      if (!crash) Carry(decision.effects);
    }
  }
  if (crash) {
    world_->loop->At(world_->now() + down_ms_, [this] { Boot(); });
    return Crash();
  }
  if (commit_.NeedsWrite()) Write();
}

// Decisions of one write are stored one after the other, as far as anybody can tell.
void SimScheduler::Note(const Decision& decision) {
  if (decision.persist) world_->checkers->Tell(&Checker::OnPersist, decision.at, decision.state);
}

void SimScheduler::Carry(const SchedulerEffects& effects) {
  if (effects.manifest) {
    world_->disk->complete[effects.manifest->manifest.number()] = *effects.manifest;
    world_->checkers->Tell(&Checker::OnManifest, world_->now(), *effects.manifest);
    After(kManifestMs, [this] { Apply(core_->ManifestWritten(now(), absl::OkStatus())); });
  }
  for (const SchedulerReply& reply : effects.replies) {
    auto found = pending_.extract(reply.token);
    if (found.empty()) {
      world_->report->Fail("scheduler", world_->now(), absl::StrCat("token ", reply.token, " is answered twice"));
      return;
    }
    Tell(reply, found.mapped().from);
    found.mapped().answer(reply.status, reply.response);
  }
  for (const std::string& event : effects.events) {
    world_->trace->Line(world_->now(), event.c_str(), {});
  }
}

void SimScheduler::Tell(const SchedulerReply& reply, Incarnation to) {
  if (leads()) return world_->checkers->Tell(&Checker::OnReply, world_->now(), reply, to);
  const uint64_t term = std::visit(
      [](const auto& response) -> uint64_t {
        if constexpr (requires { response.term(); }) return response.term();
        return 0;
      },
      reply.response);
  // Whoever knows the newer term drops it; before that one is stored nobody does.
  if (term < stored().term() || store_->writer == leader_) return;
  world_->report->Fail("scheduler", world_->now(), "one that leads no more answers in the newest term");
}

}  // namespace tidegate::simulation
