#include "tests/simulation/sim_worker.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace tidegate::simulation {
namespace {

constexpr size_t kPushesInFlightMax = 8;

StalenessOptions StalenessOf(const Plan& plan) {
  StalenessOptions options;
  options.bounded = plan.bounded;
  options.staleness = plan.staleness;
  options.depth = plan.pipeline_depth;
  return options;
}

std::string Floats(std::initializer_list<float> values) {
  return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(float));
}

}  // namespace

SimWorker::SimWorker(World* world, int id)
    : SimMember(world, id, WORKER),
      random_(Mix64(world->plan->seed * 64 + static_cast<uint64_t>(id))),
      policy_(StalenessOf(*world->plan)),
      nonce_(static_cast<uint64_t>(id) * 100000) {}

void SimWorker::Boot() {
  Begin();
  OnRejoin();
}

void SimWorker::Crash() {
  world_->trace->Line(world_->now(), "crash", {{"worker", static_cast<int64_t>(incarnation())}});
  if (incarnation() != 0) world_->checkers->Tell(&Checker::OnWorkerGone, world_->now(), incarnation(), true);
  EndSession();
  Stop();
  ended_ = true;
}

void SimWorker::End(bool failed) {
  world_->checkers->Tell(&Checker::OnWorkerGone, world_->now(), incarnation(), failed);
  Leave();
  EndSession();
  ended_ = true;
}

// ---- joining ----

void SimWorker::OnRejoin() {
  if (ended_) return;
  if (incarnation() != 0) {
    world_->trace->Line(world_->now(), "rejoins", {{"was", static_cast<int64_t>(incarnation())}});
    world_->checkers->Tell(&Checker::OnWorkerGone, world_->now(), incarnation(), true);
  }
  tracker_.reset();
  agent_.reset();
  work_.reset();
  pulls_.clear();
  pushes_.clear();
  unacknowledged_.clear();
  newest_pushed_ = -1;
  routing_.reset();
  declared_ = acting_ = false;
  clock_call_ = samples_ = 0;
  timer_at_ = -1;
  unreachable_.clear();
  for (auto& [server, stream] : stream_) ++stream;
  Join(++nonce_, "");
}

void SimWorker::OnJoined() {
  StartHeartbeats();
  DeclareTablesRequest declare;
  declare.set_incarnation(incarnation());
  for (const TableSpec& table : Tables()) *declare.add_tables() = table;
  Call<DeclareTablesResponse>(declare, [this](const absl::Status& status, const DeclareTablesResponse&) {
    if (!status.ok()) {
      if (absl::StrContains(status.message(), "rejoin")) return OnRejoin();
      world_->report->Fail("progress", world_->now(), absl::StrCat("DeclareTables: ", status.message()));
      return;
    }
    declared_ = true;
    BeginWork();
  });
}

void SimWorker::OnRouting(const RoutingTable& table) {
  auto routing = Routing::FromProto(table);
  TG_CHECK(routing.ok()) << routing.status();
  routing_ = std::make_shared<const Routing>(*std::move(routing));
  server_index_.clear();
  for (const Routing::Server& s : routing_->members()) {
    int index = 0;
    TG_CHECK(absl::SimpleAtoi(s.address, &index));
    server_index_[s.incarnation] = index;
  }
  std::erase_if(unreachable_, [this](Incarnation server) { return !server_index_.contains(server); });
  if (tracker_ != nullptr) {
    tracker_->SetRouting(now(), routing_);
    Flush();
  }
  BeginWork();
}

void SimWorker::BeginWork() {
  if (!declared_ || routing_ == nullptr || agent_ != nullptr) return;
  TrackerOptions options;
  options.generation = world_->plan->generation;
  options.incarnation = incarnation();
  options.synchronous = world_->plan->synchronous;
  options.drop_slowest = world_->plan->drop_slowest > 0;
  options.message_limit_bytes = world_->plan->message_limit_bytes;
  options.attempt_timeout_ms = 300;
  options.clock_timeout_ms = 250;
  options.retry.backoff_max_ms = 200;
  options.retry.seed = Mix64(world_->plan->seed ^ incarnation());
  tracker_ = std::make_unique<Tracker>(options);
  tracker_->SetRouting(now(), routing_);
  Flush();  // servers that have new primary shards wait for what a joiner says first
  agent_ = std::make_unique<WorkerAgent>(incarnation());
  agent_->Begin();
  Drive();
}

void SimWorker::OnPhase(Phase phase, const std::string& message) {
  if (phase == FAILED) world_->JobFailed("a worker", message);
}

void SimWorker::FillHeartbeat(HeartbeatRequest* request) {
  request->mutable_worker_load()->set_clock(newest_pushed_);
  request->mutable_worker_load()->set_samples_total(samples_);
  if (work_ == nullptr || !work_->work.has_sync() || work_->next <= work_->first) return;
  const Clock acknowledged = unacknowledged_.empty() ? newest_pushed_ : unacknowledged_.begin()->first - 1;
  if (acknowledged < work_->first) return;
  WorkDone* progress = request->add_progress();
  progress->set_lease(work_->work.lease());
  progress->set_in_progress(true);
  progress->set_next_step(work_->work.sync().first_step() +
                          static_cast<uint64_t>(acknowledged - work_->first + 1));
}

// ---- the agent's actions ----

void SimWorker::Drive() {
  if (agent_ == nullptr || acting_ || ended_) return;
  acting_ = true;
  const WorkerAgent::Action& action = agent_->Next();
  switch (action.what) {
    case WorkerAgent::Do::kAcquire:
      return Acquire();
    case WorkerAgent::Do::kAnnounce:
      clock_call_ = tracker_->Announce(now());
      return Flush();
    case WorkerAgent::Do::kPark:
      clock_call_ = tracker_->Park(now());
      return Flush();
    case WorkerAgent::Do::kRun:
      return StartWork(action.work);
    case WorkerAgent::Do::kFinish:
      if (action.finish.failed()) world_->JobFailed("a worker", action.finish.message());
      return End(false);
    case WorkerAgent::Do::kRejoin:
      return OnRejoin();
  }
}

void SimWorker::Acquire() {
  Call<AcquireWorkResponse>(
      agent_->Next().request, [this](const absl::Status& status, const AcquireWorkResponse& answer) {
        if (!status.ok()) {
          world_->report->Fail("progress", world_->now(), absl::StrCat("AcquireWork: ", status.message()));
          return;
        }
        acting_ = false;
        agent_->OnAnswer(answer);
        Later(0, [this] { Drive(); });
      });
}

void SimWorker::StartWork(const Work& work) {
  world_->trace->Line(world_->now(), work.kind() == Work::EVAL ? "eval" : "train",
                      {{"worker", static_cast<int64_t>(incarnation())},
                       {"lease", static_cast<int64_t>(work.lease())},
                       {"epoch", work.epoch()},
                       {"from", static_cast<int64_t>(work.has_sync() ? work.sync().first_step()
                                                                    : work.split().begin())},
                       {"rank", work.sync().rank()}, {"world", work.sync().world()},
                       {"clock", agent_->clock()}});
  work_ = std::make_unique<CurrentWork>();
  work_->work = work;
  work_->run = ++runs_;
  work_->done.set_lease(work.lease());
  work_->next = agent_->clock();
  work_->computed = work_->next - 1;
  if (work.has_sync()) {
    work_->first = std::max<Clock>(work.start_clock(), work_->next);
    work_->ticks_left = work_->first - work_->next;
    work_->step = work.sync().first_step();
  } else {
    work_->next_row = work.split().begin();
  }
  Pump();
}

bool SimWorker::Read(Slot* slot) {
  const Plan& plan = *world_->plan;
  CurrentWork& w = *work_;
  if (!w.work.has_sync()) {
    if (w.next_row >= w.work.split().end()) return false;
    slot->rows = {w.next_row, std::min(w.work.split().end(), w.next_row + plan.WorkerBatch())};
    w.next_row = slot->rows.end;
    return true;
  }
  if (w.ticks_left > 0) {
    --w.ticks_left;
    return true;
  }
  if (w.step >= w.work.sync().end_step()) return false;
  if (w.step >= plan.Steps()) {
    w.done.set_end_of_data(true);
    w.done.set_end_of_data_step(plan.Steps());
    return false;
  }
  slot->rows = SliceOf(plan, w.step++, w.work.sync().rank(), w.work.sync().world());
  return true;
}

void SimWorker::Pump() {
  CurrentWork& w = *work_;
  const uint64_t run = w.run;
  const bool eval = w.work.kind() == Work::EVAL;
  while (!w.read_all && (eval ? w.slots.size() < 2 : policy_.MayPull(w.next, w.computed))) {
    auto slot = std::make_shared<Slot>();
    slot->eval = eval;
    if (!Read(slot.get())) {
      w.read_all = true;
      break;
    }
    slot->clock = eval ? 0 : w.next++;
    w.slots.push_back(slot);
    if (slot->rows.size() > 0) {
      StartPull(slot);
    } else {
      slot->pulled = true;
    }
  }
  Flush();
  if (work_ == nullptr || work_->run != run || w.computing) return;
  if (w.slots.empty()) {
    if (w.read_all && unacknowledged_.empty()) FinishWork();
    return;
  }
  if (!w.slots.front()->pulled || unacknowledged_.size() >= kPushesInFlightMax) return;
  w.computing = true;
  const TimeMs took = w.slots.front()->rows.size() == 0
                          ? 0
                          : 1 + static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(world_->plan->step_ms_max)));
  Later(took, [this, run] {
    if (work_ == nullptr || work_->run != run) return;
    const std::shared_ptr<Slot> slot = work_->slots.front();
    work_->slots.pop_front();
    work_->computing = false;
    Compute(slot);
  });
}

void SimWorker::StartPull(const std::shared_ptr<Slot>& slot) {
  PulledRows& pull = slot->pull;
  pull.worker = incarnation();
  pull.clock = slot->clock;
  pull.bound = policy_.BoundOf(slot->clock);
  pull.eval = slot->eval;
  pull.issue = ++issues_;
  const Incarnation own = world_->plan->synchronous ? 0 : incarnation();
  pull.keys = PullOf(*world_->plan, work_->work.epoch(), slot->rows, own);
  std::vector<TablePull> tables;
  for (const auto& [table, keys] : pull.keys) {
    std::vector<float>& rows = pull.rows[table];
    rows.resize(keys.size() * WidthOf(table));
    tables.push_back({table, keys, rows});
  }
  world_->checkers->Tell(&Checker::OnPullIssued, world_->now(), pull);
  const Tracker::CallId call = slot->eval ? tracker_->PullForEvaluation(now(), tables)
                                          : tracker_->Pull(now(), slot->clock, pull.bound, tables);
  pulls_[call] = slot;
}

void SimWorker::Compute(const std::shared_ptr<Slot>& slot) {
  CurrentWork& w = *work_;
  if (slot->eval) {
    TaskScores* scores = w.done.mutable_scores()->empty() ? w.done.add_scores() : w.done.mutable_scores(0);
    scores->set_task("click");
    for (uint64_t row = slot->rows.begin; row < slot->rows.end; ++row) {
      scores->set_probabilities(scores->probabilities() + Floats({row % 2 == 0 ? .25f : .75f}));
      scores->set_labels(scores->labels() + Floats({row % 2 == 0 ? 0.0f : 1.0f}));
    }
    w.done.set_samples(w.done.samples() + slot->rows.size());
  } else {
    Push(*slot);
    w.computed = slot->clock;
    const uint64_t rows = slot->rows.size();
    w.done.set_samples(w.done.samples() + rows);
    w.done.set_loss_sum(w.done.loss_sum() + 0.5 * static_cast<double>(rows));
    w.done.set_weight_sum(w.done.weight_sum() + static_cast<double>(rows));
    samples_ += rows;
  }
  Flush();
  if (work_ != nullptr && work_.get() == &w) Pump();
}

void SimWorker::Push(const Slot& slot) {
  PushIssued push;
  push.worker = incarnation();
  push.number = ++numbers_;
  push.clock = slot.clock;
  push.weight = static_cast<double>(slot.rows.size());
  push.epoch = work_->work.epoch();
  push.rows = slot.rows;
  const Incarnation own = world_->plan->synchronous ? 0 : incarnation();
  push.gradients = GradientsOf(*world_->plan, push.epoch, slot.rows, own);
  std::map<TableId, std::vector<Key>> keys;
  std::map<TableId, std::vector<float>> values;
  for (const auto& [at, gradient] : push.gradients) {
    keys[at.first].push_back(at.second);
    values[at.first].insert(values[at.first].end(), gradient.begin(), gradient.end());
  }
  std::vector<TablePush> tables;
  for (const auto& [table, of_table] : keys) tables.push_back({table, of_table, values[table], {}});
  unacknowledged_[slot.clock] = slot.rows.size();
  newest_pushed_ = slot.clock;
  world_->trace->Line(world_->now(), "push", {{"worker", static_cast<int64_t>(push.worker)}, {"clock", push.clock},
                                      {"rows", static_cast<int64_t>(push.rows.size())}});
  world_->checkers->Tell(&Checker::OnPushIssued, world_->now(), push);
  pushes_[tracker_->Push(now(), slot.clock, push.weight, tables)] = {slot.clock, push.number};
  tracker_->EndClock(now(), slot.clock);
}

void SimWorker::FinishWork() {
  CurrentWork& w = *work_;
  if (w.work.has_sync()) {
    w.done.set_next_step(w.work.sync().first_step() + static_cast<uint64_t>(w.next - w.first));
  }
  const WorkDone done = w.done;
  const Clock next = w.work.kind() == Work::EVAL ? agent_->clock() : w.next;
  world_->checkers->Tell(&Checker::OnWorkDone, world_->now(), incarnation(), w.work, done);
  work_.reset();
  acting_ = false;
  agent_->OnWorkDone(done, next);
  Later(0, [this] { Drive(); });
}

// ---- the tracker's effects ----

void SimWorker::Flush() {
  if (tracker_ == nullptr) return;
  Tracker::Effects effects = tracker_->TakeEffects();
  for (const Tracker::Send& send : effects.sends) Transmit(send);
  if (effects.want_routing) HeartbeatNow();
  ArmTimer();
  const Tracker* before = tracker_.get();
  for (const Tracker::Completed& done : effects.completed) {
    if (tracker_.get() != before || ended_) return;
    Completed(done);
  }
}

void SimWorker::ArmTimer() {
  const TimeMs next = tracker_->NextTime();
  if (next == std::numeric_limits<TimeMs>::max()) return;
  if (timer_at_ >= now() && timer_at_ <= next) return;
  timer_at_ = std::max(next, now());
  Later(timer_at_ - now(), [this] {
    if (tracker_ == nullptr || ended_) return;
    timer_at_ = -1;
    if (tracker_->NextTime() <= now()) tracker_->OnTime(now());
    Flush();
  });
}

void SimWorker::Transmit(const Tracker::Send& send) {
  if (const auto* push = std::get_if<wire::PushRequest>(&send.body)) {
    world_->checkers->Tell(&Checker::OnPushSent, world_->now(), incarnation(), push->sequence, push->clock);
  }
  const auto known = server_index_.find(send.server);
  if (known == server_index_.end()) return;  // routing has moved on meanwhile
  const int index = known->second;
  SimServer* server = world_->servers.at(static_cast<size_t>(index));
  auto bytes = std::make_shared<const std::string>(
      wire::Flatten(wire::EncodeStreamRequest(send.number, send.body)));
  const uint64_t stream = stream_[index];
  const uint64_t of_life = life();
  const auto same_stream = [this, index, stream, of_life] {
    return life() == of_life && stream_[index] == stream;
  };
  if (!server->up()) return After(1, [this, index] { LosePeer(index); });  // nobody listens
  world_->network->Send(*this, server, [this, server, bytes, same_stream] {
    if (!same_stream()) return;
    server->Receive(id(), *bytes, [this, server, same_stream](std::shared_ptr<const std::string> reply) {
      world_->network->Send(*server, this, [this, reply, same_stream] {
        if (!same_stream() || tracker_ == nullptr || ended_) return;
        auto parsed = wire::ParseStreamResponse(std::as_bytes(std::span(*reply)));
        TG_CHECK(parsed.ok()) << parsed.status();
        if (const auto* refused = std::get_if<absl::Status>(&parsed->body)) {
          world_->trace->Line(world_->now(), "refused", {{"worker", static_cast<int64_t>(incarnation())}, {"call", static_cast<int64_t>(parsed->call)}});
          world_->trace->Line(world_->now(), refused->ToString().c_str(), {});
        }
        tracker_->OnReply(now(), parsed->call, parsed->body);
        Flush();
      });
    });
  });
}

void SimWorker::FillReports(HeartbeatRequest* request) {
  for (Incarnation server : unreachable_) request->add_unreachable(server);
}

void SimWorker::LosePeer(int server) {
  if (!up() || ended_) return;
  for (const auto& [incarnation, index] : server_index_) {
    const SimServer* process = world_->servers.at(static_cast<size_t>(server));
    if (index == server && (!process->up() || process->incarnation() != incarnation)) unreachable_.insert(incarnation);
  }
  Disconnect(server);
  if (!unreachable_.empty()) HeartbeatNow();
}

void SimWorker::Disconnect(int server) {
  ++stream_[server];
  world_->servers.at(static_cast<size_t>(server))->Disconnect(id());
  if (tracker_ == nullptr || ended_) return;
  for (const auto& [incarnation, index] : server_index_) {
    if (index == server) tracker_->OnDisconnected(now(), incarnation);
  }
  Flush();
}

void SimWorker::Completed(const Tracker::Completed& done) {
  if (!done.status.ok()) {
    if (absl::IsFailedPrecondition(done.status) && absl::StrContains(done.status.message(), "rejoin")) {
      return OnRejoin();
    }
    world_->report->Fail("progress", world_->now(), absl::StrCat("worker ", incarnation(), ": ",
                                                         std::string(done.status.message())));
    return;
  }
  if (done.call == clock_call_) {
    clock_call_ = 0;
    acting_ = false;
    world_->trace->Line(world_->now(), agent_->Next().what == WorkerAgent::Do::kAnnounce ? "live" : "parked",
                        {{"worker", static_cast<int64_t>(incarnation())}, {"clock", done.clock}});
    if (agent_->Next().what == WorkerAgent::Do::kAnnounce) {
      agent_->OnAnnounced(done.clock);
    } else {
      agent_->OnParked();
    }
    Later(0, [this] { Drive(); });
  } else if (const auto pull = pulls_.find(done.call); pull != pulls_.end()) {
    const std::shared_ptr<Slot> slot = pull->second;
    pulls_.erase(pull);
    slot->pulled = true;
    world_->checkers->Tell(&Checker::OnPullDone, world_->now(), slot->pull);
    if (work_ != nullptr) Later(0, [this, run = work_->run] {
      if (work_ != nullptr && work_->run == run) Pump();
    });
  } else if (const auto push = pushes_.find(done.call); push != pushes_.end()) {
    const auto [clock, number] = push->second;
    pushes_.erase(push);
    OnAcknowledged(clock, number, done.dropped);
  }
}

void SimWorker::OnAcknowledged(Clock clock, uint64_t number, bool dropped) {
  const uint64_t rows = unacknowledged_.at(clock);
  unacknowledged_.erase(clock);
  world_->trace->Line(world_->now(), dropped ? "dropped" : "acked",
                      {{"worker", static_cast<int64_t>(incarnation())}, {"clock", clock}});
  world_->checkers->Tell(dropped ? &Checker::OnPushDropped : &Checker::OnPushAcknowledged, world_->now(), incarnation(), number);
  if (work_ == nullptr) return;
  if (dropped) work_->done.set_samples(work_->done.samples() - rows);
  Later(0, [this, run = work_->run] {
    if (work_ != nullptr && work_->run == run) Pump();
  });
}

}  // namespace tidegate::simulation
