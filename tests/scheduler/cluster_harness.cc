#include "tests/scheduler/cluster_harness.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "scheduler/checkpoint_resume.h"

namespace tidegate {
namespace {

constexpr TimeMs kTickMs = 50;
constexpr TimeMs kTimeoutMs = 700;
constexpr uint64_t kSamplesPerSplit = 10;

std::vector<TableSpec> Tables() {
  TableSpec table;
  table.set_id(0);
  table.set_name("emb");
  table.add_parts()->set_name("w");
  table.mutable_parts(0)->set_dim(1);
  return {table};
}

std::string Floats(std::initializer_list<float> values) {
  return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(float));
}

}  // namespace

ClusterHarness::ClusterHarness(HarnessOptions options)
    : options_(std::move(options)), random_(options_.seed) {
  JobConfig& job = scheduler_.job;
  job.set_name("harness");
  job.mutable_train()->set_epochs(options_.epochs);
  job.mutable_cluster()->set_servers(options_.servers);
  job.mutable_cluster()->set_workers(options_.workers);
  job.mutable_cluster()->set_shards(16);
  if (options_.replicas > 1) job.mutable_cluster()->set_replicas(options_.replicas);
  job.mutable_model()->add_task()->set_name("click");
  scheduler_.config_fingerprint = 77;
  scheduler_.synchronous = options_.synchronous;
  for (uint32_t i = 0; i < options_.splits; ++i) {
    Split split;
    split.set_begin(i * 100);
    split.set_end(i * 100 + 100);
    scheduler_.train_splits.push_back(split);
  }
  for (uint32_t i = 0; i < options_.valid_splits; ++i) {
    scheduler_.valid_splits.push_back(scheduler_.train_splits.at(i));
  }
  if (options_.checkpoints) scheduler_.checkpoint_directory = "ckpt";
  scheduler_.sync_group_steps = scheduler_.sync_group_steps_max = 8;
  if (options_.adjust) options_.adjust(&scheduler_);
  stored_ = options_.resumed;
  StartScheduler();
  for (uint32_t i = 0; i < options_.servers; ++i) AddServer();
  for (uint32_t i = 0; i < options_.workers; ++i) AddWorker();
}

void ClusterHarness::StartScheduler() {
  auto core = ClusterState::Create(scheduler_, stored_);
  TG_CHECK(core.ok()) << core.status();
  core_ = *std::move(core);
  Apply(core_->Start(now_));
}

uint64_t ClusterHarness::ExpectedSamples() const {
  return options_.synchronous ? options_.steps * options_.samples_per_step
                              : options_.splits * kSamplesPerSplit;
}

bool ClusterHarness::HasEvent(const std::string& text) const {
  for (const std::string& event : stored_.events()) {
    if (event.find(text) != std::string::npos) return true;
  }
  return false;
}

// As scheduler/rpc does.
void ClusterHarness::Restore() {
  std::vector<StoredCheckpoint> stored;
  for (const ManifestOrder& order : manifests_) {
    if (!options_.checkpoints_gone) stored.push_back({order.directory, order.manifest});
  }
  SchedulerOptions options = scheduler_;
  options.generation = core_->Durable().generation() + 1;
  options.restored = true;
  auto state = RestoredState(stored, options, core_->Durable());
  if (!state.ok()) return Apply(core_->RestoreFailed(now_, state.status()));
  replaced_ = std::exchange(core_, *ClusterState::Create(options, *std::move(state)));
  Apply(core_->Start(now_));
}

void ClusterHarness::Apply(SchedulerEffects effects) {
  if (core_->WantsRestore()) Restore();
  if (effects.persist) stored_ = core_->Durable();
  metrics_.insert(metrics_.end(), effects.metrics.begin(), effects.metrics.end());
  if (effects.manifest) {
    manifests_.push_back(*effects.manifest);
    After(1, [this, of = core_.get()] {
      if (core_.get() == of && core_) Apply(core_->ManifestWritten(now_, manifest_status_));
    });
  }
  removed_.insert(removed_.end(), effects.remove_checkpoints.begin(), effects.remove_checkpoints.end());
  for (SchedulerReply& reply : effects.replies) {
    const auto it = pending_.find(reply.token);
    TG_CHECK(it != pending_.end()) << "a token answered twice, or unknown: " << reply.token;
    Reply callback = std::move(it->second);
    pending_.erase(it);
    if (random_.Unit() < options_.drop) continue;
    After(Delay(), [callback, reply] { callback(reply.status, reply.response); });
  }
}

uint64_t ClusterHarness::AskForCheckpoint() {
  const CallToken token = ++last_token_;
  uint64_t number = 0;
  SchedulerEffects effects = core_->Handle(now_, token, SaveCheckpointRequest());
  std::erase_if(effects.replies, [&](const SchedulerReply& reply) {
    if (reply.token != token) return false;
    if (reply.status.ok()) number = std::get<SaveCheckpointResponse>(reply.response).number();
    return true;
  });
  Apply(std::move(effects));
  return number;
}

template <typename Request>
void ClusterHarness::Send(const Request& request, Reply reply) {
  if (random_.Unit() < options_.drop) return;
  const int copies = random_.Unit() < options_.duplicate ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    const TimeMs delay = i == 0 ? Delay() : Delay() * 20;
    At(std::max(now_ + delay, paused_until_), [this, request, reply] {
      if (before_call) before_call(calls_);
      ++calls_;
      if (!core_) return;
      const CallToken token = ++last_token_;
      pending_[token] = reply;
      Apply(core_->Handle(now_, token, request));
    });
  }
}

// One logical call: sent again, as it is, until an answer comes.
template <typename Request>
void ClusterHarness::Call(int member, uint64_t life, const Request& request, TimeMs timeout_ms,
                          Reply reply) {
  if (!Alive(member, life)) return;
  auto answered = std::make_shared<bool>(false);
  if (!members_[member]->silent) {
    Send(request, [this, member, life, answered, reply](const absl::Status& status,
                                                        const SchedulerResponse& response) {
      if (*answered || !Alive(member, life)) return;
      *answered = true;
      reply(status, response);
    });
  }
  After(timeout_ms, [this, member, life, request, timeout_ms, reply, answered] {
    if (*answered) return;
    *answered = true;
    Call(member, life, request, timeout_ms, reply);
  });
}

bool ClusterHarness::Alive(int member, uint64_t life) const {
  const FakeMember& m = *members_[member];
  return !m.dead && !m.ended && m.life == life;
}

int ClusterHarness::Add(Role role) {
  auto m = std::make_unique<FakeMember>();
  m->role = role;
  m->index = static_cast<int>(members_.size());
  m->nonce = 1000 + members_.size();
  members_.push_back(std::move(m));
  Join(members_.back()->index);
  return members_.back()->index;
}

void ClusterHarness::Join(int member) {
  FakeMember& m = *members_[member];
  const uint64_t life = m.life;
  JoinRequest request;
  request.set_role(m.role);
  request.set_nonce(m.nonce);
  request.set_name(absl::StrCat("m", member));
  if (m.role == SERVER) request.set_address(absl::StrCat("host:", member));
  Call(member, life, request, kTimeoutMs,
       [this, &m, member, life](const absl::Status& status, const SchedulerResponse& response) {
         if (absl::IsUnavailable(status)) {
           return After(kTickMs, [this, member, life] {
             if (Alive(member, life)) Join(member);
           });
         }
         if (!status.ok()) {
           m.ended = m.failed = true;
           m.message = std::string(status.message());
           return;
         }
         m.incarnation = std::get<JoinResponse>(response).incarnation();
         m.term = std::get<JoinResponse>(response).term();
         Heartbeat(member, life);
         if (m.role == SERVER) return;
         DeclareTablesRequest declare;
         declare.set_incarnation(m.incarnation);
         for (const TableSpec& table : Tables()) *declare.add_tables() = table;
         Call(member, life, declare, kTimeoutMs,
              [this, member, life](const absl::Status&, const SchedulerResponse&) {
                Acquire(member, life);
              });
       });
}

void ClusterHarness::Rejoin(int member) {
  FakeMember& m = *members_[member];
  ++m.life;
  m.nonce += 100;
  m.live = false;
  m.work.reset();
  m.unreported.clear();
  m.order = 0;
  m.samples = 0;
  m.routing_epoch = m.worker_set_version = m.last_command = m.probe = 0;
  m.results.clear();
  m.routing.Clear();
  m.fills.clear();
  Join(member);
}

void ClusterHarness::Restart(int member) {
  members_[member]->dead = members_[member]->ended = false;
  Rejoin(member);
}

// As a primary: what the newest table has it fill.
void ClusterHarness::TakeRouting(FakeMember& m, const RoutingTable& table) {
  TG_CHECK(table.epoch() > m.routing.epoch());
  m.routing = table;
  m.routed_at = now_;
  std::map<uint32_t, FakeMember::Fill> fills;
  for (int shard = 0; shard < table.joining_size(); ++shard) {
    const Incarnation joining = table.joining(shard);
    if (table.primary(shard) != m.incarnation || joining == 0) continue;
    const auto old = m.fills.find(shard);
    fills[shard] = old != m.fills.end() && old->second.server == joining
                       ? old->second
                       : FakeMember::Fill{joining, table.epoch(), now_ + options_.fill_ms};
  }
  m.fills = std::move(fills);
}

void ClusterHarness::Heartbeat(int member, uint64_t life) {
  FakeMember& m = *members_[member];
  if (!Alive(member, life)) return;
  HeartbeatRequest request;
  request.set_incarnation(m.incarnation);
  request.set_seen_term(m.term);
  request.set_routing_epoch(m.routing_epoch);
  request.set_worker_set_version(m.worker_set_version);
  request.set_seen_probe(m.probe);
  request.set_last_command(m.last_command);
  for (const auto& [id, result] : m.results) *request.add_results() = result;
  for (const auto& [shard, fill] : m.fills) {
    if (fill.ready_at > now_) continue;
    InSync* report = request.add_in_sync();
    report->set_shard(shard);
    report->set_server(fill.server);
    report->set_epoch(fill.epoch);
  }
  for (int shard = 0; shard < m.routing.successor_size() && now_ - m.routed_at >= options_.drain_ms; ++shard) {
    if (m.routing.primary(shard) != m.incarnation || m.routing.successor(shard) == 0) continue;
    Drained* report = request.add_drained();
    report->set_shard(static_cast<uint32_t>(shard));
    report->set_epoch(m.routing.epoch());
  }
  for (const Incarnation server : m.unreachable) request.add_unreachable(server);
  request.mutable_refill()->Assign(m.refill.begin(), m.refill.end());
  if (m.role == WORKER) {
    request.mutable_worker_load()->set_clock(m.clock);
    request.mutable_worker_load()->set_samples_total(m.samples);
    TaskProgress* counts = request.mutable_worker_load()->add_progressive();
    counts->set_task("click");
    counts->set_weight_sum(static_cast<double>(m.samples));
    counts->set_loss_sum(0.5 * static_cast<double>(m.samples));
    if (m.work) *request.add_progress() = m.progress;
  } else if (options_.shard_rate) {
    ShardLoads* loads = request.mutable_server_load()->mutable_shards();
    for (int shard = 0; shard < m.routing.primary_size(); ++shard) {
      if (m.routing.primary(shard) != m.incarnation) continue;
      loads->add_shard(static_cast<uint32_t>(shard));
      loads->add_rows_total(static_cast<uint64_t>(options_.shard_rate(static_cast<uint32_t>(shard)) * static_cast<double>(now_) / 1000));
      loads->add_bytes(0);
    }
  }
  Call(member, life, request, kTimeoutMs,
       [this, &m, member, life](const absl::Status&, const SchedulerResponse& response) {
         const auto& heartbeat = std::get<HeartbeatResponse>(response);
         if (heartbeat.rejoin() && heartbeat.phase() < FINISHED) return Rejoin(member);
         if (!m.deaf) TakeHeartbeat(m, heartbeat);
         Heartbeat(member, life);
       });
}

void ClusterHarness::TakeHeartbeat(FakeMember& m, const HeartbeatResponse& response) {
  if (response.term() < m.term) return;
  m.term = response.term();
  m.phase = response.phase();
  m.probe = std::max(m.probe, response.probe());
  if (response.has_routing() && response.routing().epoch() > m.routing_epoch) {
    m.routing_epoch = response.routing().epoch();
    if (m.role == SERVER) TakeRouting(m, response.routing());
  }
  if (response.has_workers()) {
    m.worker_set_version = response.workers().version();
    m.workers = response.workers();
  }
  for (const Command& command : response.commands()) {
    if (command.id() <= m.last_command) continue;
    m.last_command = command.id();
    DoCommand(m, command);
  }
  if (m.role == SERVER && response.phase() >= FINISHED) {
    m.ended = true;
    m.finished = response.phase() == FINISHED;
    m.failed = !m.finished;
    m.message = response.message();
    LeaveRequest leave;
    leave.set_incarnation(m.incarnation);
    Send(leave, [](const absl::Status&, const SchedulerResponse&) {});
  }
}

void ClusterHarness::DoCommand(FakeMember& m, const Command& command) {
  m.commands_done.push_back(command);
  CommandResult result;
  result.set_id(command.id());
  if (command.has_set_learning_rate()) m.lr_scale = command.set_learning_rate().scale();
  if (command.has_write_checkpoint() && m.disk_full) {
    result.set_code(static_cast<uint32_t>(absl::StatusCode::kResourceExhausted));
    result.set_error("no space left on device");
  } else if (command.has_write_checkpoint()) {
    for (int shard = 0; shard < m.routing.primary_size(); ++shard) {
      if (m.routing.primary(shard) != m.incarnation) continue;
      CheckpointFile* file = result.add_files();
      file->set_name(absl::StrCat("shard-", shard));
      file->set_shard(static_cast<uint32_t>(shard));
    }
  }
  const uint64_t life = m.life;
  const int index = m.index;
  After(5 + Delay(), [this, index, life, result] {
    if (Alive(index, life)) members_[index]->results[result.id()] = result;
  });
}

void ClusterHarness::Acquire(int member, uint64_t life) {
  FakeMember& m = *members_[member];
  if (!Alive(member, life)) return;
  AcquireWorkRequest request;
  request.set_incarnation(m.incarnation);
  request.set_order(++m.order);
  request.set_live(m.live);
  request.set_clock(m.clock);
  for (const WorkDone& done : m.unreported) *request.add_done() = done;
  Call(member, life, request, kTimeoutMs,
       [this, &m, member, life](const absl::Status& status, const SchedulerResponse& response) {
         TG_CHECK(status.ok()) << status;
         m.unreported.clear();
         TakeWork(member, life, std::get<AcquireWorkResponse>(response));
       });
}

void ClusterHarness::TakeWork(int member, uint64_t life, const AcquireWorkResponse& response) {
  FakeMember& m = *members_[member];
  if (response.rejoin()) return Rejoin(member);
  switch (response.answer_case()) {
    case AcquireWorkResponse::kAnnounce:
      After(Delay(), [this, &m, member, life] {
        m.live = true;
        m.clock = applied_ + 1;
        Acquire(member, life);
      });
      return;
    case AcquireWorkResponse::kPark:
      After(Delay(), [this, &m, member, life] {
        m.live = false;
        Acquire(member, life);
      });
      return;
    case AcquireWorkResponse::kFinish: {
      m.ended = true;
      m.finished = !response.finish().failed();
      m.failed = response.finish().failed();
      m.message = response.finish().message();
      LeaveRequest leave;
      leave.set_incarnation(m.incarnation);
      Send(leave, [](const absl::Status&, const SchedulerResponse&) {});
      return;
    }
    case AcquireWorkResponse::kWork: {
      m.work = response.work();
      m.progress.Clear();
      m.progress.set_lease(m.work->lease());
      if (!m.work->has_sync()) {
        if (m.work->kind() == Work::TRAIN) TG_CHECK(m.live) << "work for a parked worker";
        return RunSplit(member, life);
      }
      TG_CHECK(m.live && m.clock <= m.work->start_clock())
          << m.clock << " after " << m.work->start_clock();
      m.clock = m.work->start_clock();
      m.progress.set_next_step(m.work->sync().first_step());
      return RunStep(member, life);
    }
    default:
      Acquire(member, life);
  }
}

void ClusterHarness::RunSplit(int member, uint64_t life) {
  After(10 + static_cast<TimeMs>(random_.Below(100)), [this, member, life] {
    FakeMember& m = *members_[member];
    if (!Alive(member, life) || m.hung) return;
    WorkDone done;
    done.set_lease(m.work->lease());
    if (m.work->kind() == Work::TRAIN) {
      done.set_samples(kSamplesPerSplit);
      done.set_loss_sum(5);
      done.set_weight_sum(10);
      m.samples += kSamplesPerSplit;
      m.clock += 3;
      applied_ = std::max(applied_, m.clock - 1);
    } else {
      TaskScores* scores = done.add_scores();
      scores->set_task("click");
      scores->set_probabilities(Floats({.2f, .8f}));
      scores->set_labels(Floats({0, 1}));
    }
    Done(member, life, done);
  });
}

void ClusterHarness::RunStep(int member, uint64_t life) {
  After(2 + static_cast<TimeMs>(random_.Below(4)), [this, member, life] {
    FakeMember& m = *members_[member];
    if (!Alive(member, life) || m.hung) return;
    const SyncRange& range = m.work->sync();
    const bool later = m.work->epoch() > 1 && options_.steps_later > 0;
    const uint64_t steps = later ? options_.steps_later : options_.steps;
    const uint64_t step = m.progress.next_step();
    if (step >= steps || step >= range.end_step()) {
      WorkDone done = m.progress;
      if (step >= steps) {
        done.set_end_of_data(true);
        done.set_end_of_data_step(steps);
      }
      return Done(member, life, done);
    }
    const uint64_t samples = options_.samples_per_step / range.world();
    m.progress.set_next_step(step + 1);
    m.progress.set_samples(m.progress.samples() + samples);
    m.progress.set_weight_sum(m.progress.weight_sum() + static_cast<double>(samples));
    m.progress.set_loss_sum(m.progress.loss_sum() + static_cast<double>(samples) / 2);
    m.samples += samples;
    applied_ = std::max(applied_, m.clock);
    ++m.clock;
    RunStep(member, life);
  });
}

void ClusterHarness::Done(int member, uint64_t life, WorkDone done) {
  FakeMember& m = *members_[member];
  m.work.reset();
  m.unreported.push_back(std::move(done));
  Acquire(member, life);
}

bool ClusterHarness::RunUntil(const std::function<bool()>& done, TimeMs limit_ms) {
  const TimeMs limit = now_ + limit_ms;
  while (!done()) {
    const TimeMs next = events_.empty() ? next_tick_ : std::min(next_tick_, events_.begin()->first);
    if (next > limit) {
      now_ = limit;
      return false;
    }
    now_ = std::max(now_, next);
    if (!events_.empty() && events_.begin()->first <= now_) {
      auto& queue = events_.begin()->second;
      std::function<void()> event = std::move(queue.front());
      queue.pop_front();
      if (queue.empty()) events_.erase(events_.begin());
      event();
    } else {
      next_tick_ = std::max(now_ + kTickMs, paused_until_);
      if (now_ < paused_until_) continue;
      if (core_) Apply(core_->Tick(now_));
    }
  }
  return true;
}

void ClusterHarness::RunFor(TimeMs ms) {
  RunUntil([] { return false; }, ms);
}

bool ClusterHarness::RunToEnd(TimeMs limit_ms) {
  return RunUntil(
      [this] {
        return std::all_of(members_.begin(), members_.end(),
                           [](const auto& m) { return m->dead || m->ended; });
      },
      limit_ms);
}

}  // namespace tidegate
