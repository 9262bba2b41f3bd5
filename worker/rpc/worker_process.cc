#include "worker/rpc/worker_process.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <optional>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/counted.h"
#include "common/job_config/job_config.h"
#include "common/logging.h"
#include "common/routing_table.h"
#include "worker/client/rpc/cluster_client.h"
#include "worker/data/readers.h"
#include "worker/model/backend.h"
#include "worker/model/model.h"
#include "worker/pipeline/grouped_gather.h"
#include "worker/pipeline/worker_agent.h"

namespace tidegate {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int64_t kUnreachableMinMs = 10'000;
constexpr double kProgressivePeriodS = 1;  // between two reports of progressive counts

bool IsFenced(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) && absl::StrContains(status.message(), "rejoin");
}

}  // namespace

// Everything that belongs to one incarnation. Callbacks of link and client reach it by shared_ptr.
struct WorkerProcess::Session {
  std::unique_ptr<MemberLink> link;
  JobConfig job;
  Staleness staleness;
  std::unique_ptr<Model> model;
  std::unique_ptr<Readers> readers;
  std::unique_ptr<ClusterClient> client;
  std::unique_ptr<WorkRunner> runner;
  std::unique_ptr<WorkerAgent> agent;

  std::mutex mu;
  std::condition_variable changed;
  std::shared_ptr<const Routing> routing;  // newest
  std::string failure;                     // the job failed: why
  bool ended = false;                      // the job finished or failed
  std::atomic<bool> fenced{false};
  std::atomic<bool> stop{false};           // of the runner: stop, fence or end
  std::atomic<bool> ready{false};          // runner and client are there

  // Of the last load report: what the shares are measured since.
  struct Sample {
    double at = 0, reader = 0, pull = 0, compute = 0, push = 0, loss = 0, weight = 0;
    double read_bytes = 0, read_seconds = 0;
  };
  Sample last;
  double loss = 0;
  double progressive_at = 0;

  void OnRouting(const RoutingTable& table) {
    auto made = Routing::FromProto(table);
    if (!made.ok()) {
      TG_LOG(ERROR) << "the scheduler sent " << made.status().message();
      return;
    }
    auto shared = std::make_shared<const Routing>(*std::move(made));
    ClusterClient* to = nullptr;
    {
      std::lock_guard lock(mu);
      routing = shared;
      to = client.get();
    }
    if (to != nullptr) to->SetRouting(shared);
    changed.notify_all();
  }
  // Starts an asynchronous call of the client and waits for its end.
  template <typename Result, typename Begin>
  Result Await(const char* what, Begin begin) {
    struct Box {
      std::mutex mu;
      std::condition_variable done;
      std::optional<Result> result;
    };
    auto box = std::make_shared<Box>();
    begin([box](Result result) {
      std::lock_guard lock(box->mu);
      box->result.emplace(std::move(result));
      box->done.notify_all();
    });
    auto told = SteadyClock::now();
    std::unique_lock lock(box->mu);
    while (!box->result.has_value()) {
      if (stop) return Result(absl::CancelledError(absl::StrCat("stopped while waiting for ", what)));
      box->done.wait_for(lock, std::chrono::milliseconds(50));
      if (SteadyClock::now() - told > std::chrono::seconds(10)) {
        told = SteadyClock::now();
        TG_LOG(INFO) << "waiting for " << what;
      }
    }
    return *std::move(box->result);
  }
  void Fence() {
    fenced = true;
    stop = true;
    changed.notify_all();
  }
  void OnLost(const std::string& why) {
    {
      std::lock_guard lock(mu);
      failure = why;
    }
    stop = true;
    changed.notify_all();
  }
  void OnPhase(Phase phase, const std::string& message) {
    if (phase != FAILED && phase != FINISHED) return;
    {
      std::lock_guard lock(mu);
      ended = true;
      if (phase == FAILED) failure = message.empty() ? "the job failed" : message;
    }
    if (phase == FAILED) stop = true;
    changed.notify_all();
  }
};

WorkerProcess::WorkerProcess(Options options) : options_(std::move(options)) {}

WorkerProcess::~WorkerProcess() = default;

void WorkerProcess::RequestStop() {
  stop_ = true;
  std::shared_ptr<Session> session;
  {
    std::lock_guard lock(mu_);
    session = session_;
  }
  if (session == nullptr) return;
  session->stop = true;
  session->link->Cancel();
  session->changed.notify_all();
}

absl::Status WorkerProcess::Run() {
  while (true) {
    auto ended = RunIncarnation();
    if (stop_) return absl::CancelledError("stopped");
    if (!ended.ok()) return ended.status();
    if (*ended == Ended::kFinished) return absl::OkStatus();
    TG_LOG(WARNING) << "removed from the job (no sign of life reached the scheduler for a lease, or the job goes on from a checkpoint): "
                       "joining again as a new worker";
  }
}

absl::StatusOr<WorkerProcess::Ended> WorkerProcess::RunIncarnation() {
  auto session = std::make_shared<Session>();
  MemberLink::Options link_options;
  link_options.scheduler = options_.scheduler;
  link_options.role = WORKER;
  link_options.name = options_.name;
  link_options.config_fingerprint = options_.config_fingerprint;
  link_options.join_timeout_s = options_.join_timeout_s;
  link_options.scheduler_timeout_s = options_.scheduler_timeout_s;
  std::weak_ptr<Session> weak = session;
  MemberLink::Callbacks callbacks;
  callbacks.routing = [weak](const RoutingTable& table) {
    if (auto s = weak.lock()) s->OnRouting(table);
  };
  callbacks.phase = [weak](Phase phase, const std::string& message) {
    if (auto s = weak.lock()) s->OnPhase(phase, message);
  };
  callbacks.lost = [weak](const std::string& why) {
    if (auto s = weak.lock()) s->OnLost(why);
  };
  callbacks.rejoin = [weak] {
    if (auto s = weak.lock()) s->Fence();
  };
  callbacks.fill_heartbeat = [this, weak](HeartbeatRequest* request) {
    if (auto s = weak.lock()) FillHeartbeat(s.get(), request);
  };
  session->link = std::make_unique<MemberLink>(link_options, callbacks);
  {
    std::lock_guard lock(mu_);
    session_ = session;
  }
  if (stop_) return absl::CancelledError("stopped");
  if (auto s = session->link->Join(); !s.ok()) return s;

  const auto& membership = session->link->membership();
  if (!session->job.ParseFromString(membership.job_config)) {
    return absl::DataLossError("the scheduler's job config cannot be parsed: another version?");
  }
  auto staleness = ParseStaleness(session->job.train().staleness());
  if (!staleness.ok()) return staleness.status();
  session->staleness = *staleness;
  TG_LOG(INFO) << "joined job \"" << session->job.name() << "\" as incarnation "
               << membership.incarnation;

  auto result = Converse(session.get());
  const bool finished = result.ok() && *result == Ended::kFinished;
  if (!result.ok() && !session->fenced && !absl::IsCancelled(result.status())) {
    session->link->ReportFatalError(std::string(result.status().message()));
  }
  if (finished || !session->fenced) {
    session->link->Leave(finished ? "finished" : result.ok() ? "rejoins" : "stopped").IgnoreError();
  }
  session->link->Stop();
  if (session->client != nullptr) session->client->Stop();
  return result;
}

absl::Status WorkerProcess::AwaitRouting(Session* session) {
  std::unique_lock lock(session->mu);
  auto told = SteadyClock::now();
  while (session->routing == nullptr) {
    if (session->stop || session->ended) {
      return absl::CancelledError("the job ended before it started");
    }
    session->changed.wait_for(lock, std::chrono::milliseconds(100));
    if (SteadyClock::now() - told > std::chrono::seconds(10)) {
      told = SteadyClock::now();
      TG_LOG(INFO) << "waiting for the cluster: the job starts with "
                   << Counted(session->job.cluster().servers(), "server") << " and "
                   << Counted(session->job.cluster().workers(), "worker");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<WorkerProcess::Ended> WorkerProcess::Converse(Session* session) {
  const JobConfig& job = session->job;
  const uint32_t workers = std::max<uint32_t>(1, job.cluster().workers());
  int threads = options_.compute_threads;
  if (threads <= 0) {
    threads = std::max<int>(1, static_cast<int>(std::thread::hardware_concurrency() / workers));
  }
  SetComputeThreads(threads);
  auto model = Model::Create(job);
  if (!model.ok()) return model.status();
  session->model = *std::move(model);
  auto readers = Readers::Create(job);
  if (!readers.ok()) return readers.status();
  session->readers = *std::move(readers);
  session->readers->ExpectTrainFiles(session->link->membership().train_file_bytes);

  session->link->Start();
  if (auto s = session->link->DeclareTables(session->model->tables()); !s.ok()) return s;
  if (auto s = AwaitRouting(session); !s.ok()) {
    if (session->fenced) return Ended::kRejoin;
    return session->failure.empty() ? s : absl::AbortedError(session->failure);
  }

  const auto& membership = session->link->membership();
  ClusterClient::Options client_options;
  client_options.tracker.generation = membership.generation;
  client_options.tracker.incarnation = membership.incarnation;
  client_options.tracker.synchronous = session->staleness.sync;
  client_options.tracker.drop_slowest = job.train().drop_slowest() > 0;
  client_options.tracker.message_limit_bytes = job.cluster().message_limit_bytes();
  client_options.tracker.wire_type = job.train().wire_dtype() == BFLOAT16
                                         ? wire::ValueType::kBfloat16
                                         : wire::ValueType::kFloat32;
  client_options.want_routing = [link = session->link.get()](Epoch) { link->HeartbeatNow(); };
  client_options.lost_server = [link = session->link.get()] { link->HeartbeatNow(); };
  client_options.unreachable_after_ms =
      std::max<int64_t>(kUnreachableMinMs, static_cast<int64_t>(job.train().stall_timeout_s() * 1000.0f));
  client_options.unreachable = [session](const std::string& why) { session->OnLost(why); };  // it outlives the client
  auto client = std::make_unique<ClusterClient>(client_options);
  {
    std::lock_guard lock(session->mu);
    session->client = std::move(client);
    session->client->SetRouting(session->routing);
  }

  StepPipeline::Options pipeline;
  pipeline.staleness.bounded = !session->staleness.infinite;
  pipeline.staleness.staleness = static_cast<uint64_t>(session->staleness.bound);
  pipeline.staleness.depth = job.train().pipeline_depth();
  pipeline.seed = job.seed();
  pipeline.drop_slowest = job.train().drop_slowest() > 0;
  const size_t batch_rows = (job.train().global_batch() + workers - 1) / workers;
  Model* m = session->model.get();
  session->runner = std::make_unique<WorkRunner>(
      job, pipeline, batch_rows, session->readers.get(), m, session->client.get(),
      GroupedGather(m, [session] {
        std::lock_guard lock(session->mu);
        return session->routing;
      }));
  session->agent = std::make_unique<WorkerAgent>(membership.incarnation);
  session->agent->Begin();
  session->ready = true;

  using Do = WorkerAgent::Do;
  while (true) {
    if (stop_) return absl::CancelledError("stopped");
    const WorkerAgent::Action& action = session->agent->Next();
    absl::Status status;
    switch (action.what) {
      case Do::kAcquire: {
        auto answer = session->link->AcquireWork(action.request);
        if (answer.ok()) session->agent->OnAnswer(*answer);
        status = answer.status();
        break;
      }
      case Do::kAnnounce: {
        auto clock = session->Await<absl::StatusOr<Clock>>(
            "every server to answer Hello",
            [&](auto done) { session->client->Announce(std::move(done)); });
        if (clock.ok()) session->agent->OnAnnounced(*clock);
        status = clock.status();
        break;
      }
      case Do::kPark:
        status = session->Await<absl::Status>(
            "every server to acknowledge Park",
            [&](auto done) { session->client->Park(std::move(done)); });
        if (status.ok()) session->agent->OnParked();
        break;
      case Do::kRun:
        status = DoWork(session);
        break;
      case Do::kFinish:
        if (action.finish.failed()) return absl::AbortedError(action.finish.message());
        return Ended::kFinished;
      case Do::kRejoin:
        return Ended::kRejoin;
    }
    if (IsFenced(status) || session->fenced) return Ended::kRejoin;
    std::lock_guard lock(session->mu);
    if (!session->failure.empty()) return absl::AbortedError(session->failure);
    if (!status.ok()) return status;
  }
}

absl::Status WorkerProcess::DoWork(Session* session) {
  const Work work = session->agent->Next().work;
  auto outcome = session->runner->Run(work, session->agent->clock(), &session->stop);
  if (!outcome.ok()) return outcome.status();
  session->agent->OnWorkDone(outcome->done, outcome->next_clock);
  return absl::OkStatus();
}

void WorkerProcess::AddMetrics(MetricsPage& page) {
  std::shared_ptr<Session> session;
  {
    std::lock_guard lock(mu_);
    session = session_;
  }
  if (session == nullptr || !session->ready) return;
  const PipelineStats& stats = session->runner->stats();
  page.Counter("tidegate_worker_samples_total", "Samples trained on", stats.samples);
  page.Counter("tidegate_worker_steps_total", "Steps with rows", stats.steps);
  page.Counter("tidegate_worker_dropped_steps_total", "Steps with rows that no clock waited for (train.drop_slowest)",
               stats.dropped_steps);
  page.Counter("tidegate_worker_dropped_samples_total", "Samples of these steps", stats.dropped_samples);
  page.Gauge("tidegate_worker_clock", "Newest clock whose push has left", stats.clock);
  const char* help = "Seconds of the step loop, by what it waited for or did";
  const std::pair<const char*, double> parts[] = {{"reader", stats.reader_wait_s},
                                                  {"pull", stats.pull_wait_s},
                                                  {"compute", stats.compute_s},
                                                  {"push", stats.push_wait_s}};
  for (const auto& [name, seconds] : parts) {
    page.Counter("tidegate_worker_step_seconds_total", help, seconds, {{"part", name}});
  }
  const ReadStats& read = session->readers->read_stats();
  page.Counter("tidegate_worker_read_bytes_total", "Bytes of text turned into rows", static_cast<double>(read.bytes));
  page.Counter("tidegate_worker_read_seconds_total", "Seconds that the reader's thread worked for them", read.seconds);
  page.Counter("tidegate_worker_bad_lines_total", "Lines of data that could not be read",
               session->readers->bad_lines().count());
  const ClusterClient::Stats client = session->client->stats();
  page.Counter("tidegate_client_sent_bytes_total", "Bytes of messages to servers",
               client.bytes_sent);
  page.Counter("tidegate_client_received_bytes_total", "Bytes of messages from servers",
               client.bytes_received);
  page.Counter("tidegate_client_messages_total", "Messages sent, all attempts",
               client.tracker.messages);
  page.Counter("tidegate_client_retries_total", "Messages sent again", client.tracker.retries);
  page.Counter("tidegate_client_connections_total", "Streams opened", client.connections);
}

// Called by the heartbeat's thread.
void WorkerProcess::FillHeartbeat(Session* session, HeartbeatRequest* request) {
  {
    std::lock_guard lock(session->mu);
    if (session->client != nullptr) {
      for (Incarnation server : session->client->UnreachableServers()) request->add_unreachable(server);
    }
  }
  if (!session->ready) return;
  const PipelineStats& stats = session->runner->stats();
  const Session::Sample now = {
      std::chrono::duration<double>(SteadyClock::now().time_since_epoch()).count(),
      stats.reader_wait_s, stats.pull_wait_s, stats.compute_s, stats.push_wait_s,
      stats.loss_sum, stats.weight_sum};
  Session::Sample& last = session->last;
  const double seconds = std::max(1e-6, now.at - last.at);
  // A step that began before the last heartbeat is counted whole when it ends.
  const auto share = [seconds](double spent) { return std::clamp(spent / seconds, 0.0, 1.0); };
  WorkerLoad* load = request->mutable_worker_load();
  load->set_samples_total(stats.samples);
  load->set_clock(stats.clock);
  load->set_dropped_steps(stats.dropped_steps);
  load->set_dropped_samples(stats.dropped_samples);
  if (now.weight > last.weight) session->loss = (now.loss - last.loss) / (now.weight - last.weight);
  load->set_loss(session->loss);
  load->set_reader_wait(share(now.reader - last.reader));
  load->set_pull_wait(share(now.pull - last.pull));
  load->set_compute(share(now.compute - last.compute));
  load->set_push_wait(share(now.push - last.push));
  const ReadStats& read = session->readers->read_stats();
  const double read_bytes = static_cast<double>(read.bytes), read_seconds = read.seconds;
  if (read_seconds > last.read_seconds && session->job.data().format() != DataConfig::GENERATED) {
    load->set_parse_bytes((read_bytes - last.read_bytes) / (read_seconds - last.read_seconds));
  }
  load->set_bad_lines(session->readers->bad_lines().count());
  last = now;
  last.read_bytes = read_bytes;
  last.read_seconds = read_seconds;
  if (now.at - session->progressive_at >= kProgressivePeriodS) {
    session->progressive_at = now.at;
    for (TaskProgress& counts : session->runner->Progressive()) *load->add_progressive() = std::move(counts);
  }
  if (auto progress = session->runner->Progress()) *request->add_progress() = *progress;
}

}  // namespace tidegate
