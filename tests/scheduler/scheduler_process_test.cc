// A whole scheduler over gRPC on loopback, with hand-made members.
#include "scheduler/rpc/scheduler_process.h"

#include <catch2/catch.hpp>
#include <google/protobuf/text_format.h>
#include <grpcpp/client_context.h>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

#include "common/checkpoint/manifest.h"
#include "common/exit_codes.h"
#include "common/rpc/channel.h"
#include "proto/job.pb.h"
#include "proto/scheduler_service.grpc.pb.h"
#include "scheduler/store/state_store.h"

namespace tidegate {
namespace {

constexpr char kConfig[] = R"(name: "small"
data { format: GENERATED train { rows: 4000 } valid { rows: 1000 first_row: 4000 } generator { cardinality: [9, 9] } }
feature { name: "C{1..2}" id {} table: "emb" }
table { name: "emb" part { name: "w" dim: 1 sgd {} } }
model { block { name: "lin" sum { in: "emb.w" } } task { logit: "lin" metric: [AUC] } }
train { epochs: 1 staleness: "2" } cluster { servers: 1 workers: 1 })";

struct Running {
  SchedulerProcessOptions options;
  FileSystem* files = &RealFileSystem();
  std::unique_ptr<SchedulerProcess> process;
  std::thread thread;
  int code = -1;
  std::unique_ptr<SchedulerService::Stub> stub;

  Running() {
    const char* base = std::getenv("TEST_TMPDIR");
    std::string folder = std::string(base != nullptr ? base : "/tmp") + "/process-XXXXXX";
    REQUIRE(mkdtemp(folder.data()) != nullptr);
    options.config = folder + "/job.textproto";
    REQUIRE(RealFileSystem().WriteAtomically(options.config, kConfig).ok());
    options.state = folder + "/state";
    options.summary = folder + "/summary.json";
    options.address_file = folder + "/address";
    options.heartbeat_interval_ms = 20;
    options.lease_ms = 60'000;
    options.leave_grace_ms = 200;
    options.metrics_port = -1;
  }
  ~Running() {
    if (!thread.joinable()) return;
    process->Stop(15);
    thread.join();
  }
  void Start() {
    process = std::make_unique<SchedulerProcess>(options, files);
    REQUIRE(RealFileSystem().Remove(options.address_file).ok());
    thread = std::thread([this] { code = process->Run(); });
    absl::StatusOr<std::string> address = absl::NotFoundError("");
    while (!address.ok()) address = RealFileSystem().Read(options.address_file, 1000);
    stub = SchedulerService::NewStub(MakeControlChannel(address->substr(0, address->find('\n'))));
  }
  void Wait() { thread.join(); }
  std::string Summary() { return *RealFileSystem().Read(options.summary, 1 << 20); }

  template <typename Response, typename Method, typename Request>
  Response Call(Method method, const Request& request) {
    Response response;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    const grpc::Status status = (stub.get()->*method)(&context, request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    return response;
  }
  Incarnation Join(Role role, uint64_t nonce) {
    JoinRequest request;
    request.set_role(role);
    request.set_nonce(nonce);
    request.set_address("127.0.0.1:1");
    const auto response = Call<JoinResponse>(&SchedulerService::Stub::Join, request);
    JobConfig job;
    CHECK(job.ParseFromString(response.job_config()));
    CHECK(job.name() == "small");
    return response.incarnation();
  }
  HeartbeatResponse Beat(const HeartbeatRequest& request) {
    return Call<HeartbeatResponse>(&SchedulerService::Stub::Heartbeat, request);
  }
  AcquireWorkResponse Ask(const AcquireWorkRequest& request) {
    return Call<AcquireWorkResponse>(&SchedulerService::Stub::AcquireWork, request);
  }
};

// What the scheduler logs when it refuses to start with these options.
std::string Refused(const SchedulerProcessOptions& options) {
  std::FILE* log = std::tmpfile();
  const int kept = dup(STDERR_FILENO);
  dup2(fileno(log), STDERR_FILENO);
  const int code = SchedulerProcess(options, &RealFileSystem()).Run();
  dup2(kept, STDERR_FILENO);
  close(kept);
  std::rewind(log);
  std::string text(1 << 16, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), log));
  std::fclose(log);
  CHECK(code == kExitUsage);
  return text;
}

std::string Floats(std::initializer_list<float> values) {
  return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(float));
}

// Does everything that the scheduler asks for, as one server and one worker.
struct Members {
  Running& run;
  Incarnation server = 0, worker = 0;
  HeartbeatRequest beat;
  AcquireWorkRequest ask;
  uint32_t shards = 0;

  void Join() {
    server = run.Join(SERVER, 1);
    worker = run.Join(WORKER, 2);
    beat.set_incarnation(server);
    ask.set_incarnation(worker);
    DeclareTablesRequest declare;
    declare.set_incarnation(worker);
    declare.add_tables()->add_parts()->set_dim(1);
    declare.mutable_tables(0)->set_id(0);
    run.Call<DeclareTablesResponse>(&SchedulerService::Stub::DeclareTables, declare);
  }
  void ServerTurn() {
    const HeartbeatResponse response = run.Beat(beat);
    beat.set_seen_term(response.term());
    if (response.has_routing()) shards = response.routing().shards();
    for (const Command& command : response.commands()) {
      beat.set_last_command(command.id());
      CommandResult* result = beat.add_results();
      result->set_id(command.id());
      for (uint32_t shard = 0; command.has_write_checkpoint() && shard < shards; ++shard) {
        result->add_files()->set_name("shard-" + std::to_string(shard));
        result->mutable_files()->rbegin()->set_shard(shard);
      }
    }
  }
  // True when the job has ended.
  bool WorkerTurn() {
    const AcquireWorkResponse response = run.Ask(ask);
    ask.set_order(ask.order() + 1);
    ask.clear_done();
    if (response.has_finish()) return true;
    if (response.has_announce()) ask.set_live(true);
    if (response.has_park()) ask.set_live(false);
    if (response.has_work()) {
      WorkDone* done = ask.add_done();
      done->set_lease(response.work().lease());
      if (response.work().kind() == Work::TRAIN) {
        done->set_samples(response.work().split().end() - response.work().split().begin());
      } else {
        done->add_scores()->set_task("click");
        done->mutable_scores(0)->set_probabilities(Floats({.1f, .9f}));
        done->mutable_scores(0)->set_labels(Floats({0, 1}));
      }
    }
    return false;
  }
};

TEST_CASE("a signal stops the job: the summary says so, and the process ends with 128 + signal") {
  Running run;
  run.Start();
  Members members{run, 0, 0, {}, {}};
  members.Join();
  for (int i = 0; i < 3; ++i) members.ServerTurn();
  for (int i = 0; i < 3; ++i) REQUIRE_FALSE(members.WorkerTurn());
  run.process->Stop(15);
  run.Wait();
  CHECK(run.code == 128 + 15);
  CHECK_THAT(run.Summary(), Catch::Contains("\"stopped\""));
}

TEST_CASE("a finished job leaves a manifest and a summary, and the process ends with 0") {
  Running run;
  run.Start();
  Members members{run, 0, 0, {}, {}};
  members.Join();
  bool ended = false;
  for (int i = 0; i < 500 && !ended; ++i) {
    members.ServerTurn();
    ended = members.WorkerTurn();
  }
  REQUIRE(ended);
  for (Incarnation member : {members.server, members.worker}) {
    LeaveRequest leave;
    leave.set_incarnation(member);
    run.Call<LeaveResponse>(&SchedulerService::Stub::Leave, leave);
  }
  run.Wait();
  CHECK(run.code == kExitFinished);
  CHECK_THAT(run.Summary(), Catch::Contains("\"finished\"") && Catch::Contains("\"samples\": 4000") &&
                                Catch::Contains("valid/click/auc\": 1"));
  const auto manifest = ReadManifest(RealFileSystem(), run.options.state + "/checkpoints/epoch-00001");
  REQUIRE(manifest.ok());
  CHECK(std::cmp_equal(manifest->files_size(), manifest->shards()));
  CHECK(manifest->epoch() == 1);

  // Started again on a finished job it ends at once, with the same result.
  REQUIRE(RealFileSystem().Remove(run.options.summary).ok());
  run.Start();
  run.Wait();
  CHECK(run.code == kExitFinished);
  CHECK_THAT(run.Summary(), Catch::Contains("\"finished\"") && Catch::Contains("\"samples\": 4000"));
  auto store = *DirectoryStore::Open(&RealFileSystem(), run.options.state);
  const int64_t now_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                             std::chrono::system_clock::now().time_since_epoch())
                             .count();
  const int64_t ended_ms = store->Load()->ended_unix_ms();
  CHECK(ended_ms <= now_ms);
  CHECK(ended_ms > now_ms - 600'000);
}

// Files as on a disk that fills up.
class FullDisk final : public FileSystem {
 public:
  std::atomic<bool> full{false};

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    if (full && path.find("scheduler.state") != std::string::npos) {
      return absl::ResourceExhaustedError("cannot write " + path + ": No space left on device");
    }
    return RealFileSystem().Create(path);
  }
  absl::StatusOr<std::string> Read(const std::string& path, uint64_t max_bytes) override {
    return RealFileSystem().Read(path, max_bytes);
  }
  absl::StatusOr<uint64_t> Size(const std::string& path) override { return RealFileSystem().Size(path); }
  absl::Status CreateDirectories(const std::string& path) override {
    return RealFileSystem().CreateDirectories(path);
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return RealFileSystem().List(path);
  }
  absl::StatusOr<std::vector<std::string>> Glob(const std::string& pattern) override {
    return RealFileSystem().Glob(pattern);
  }
  absl::Status Remove(const std::string& path) override { return RealFileSystem().Remove(path); }
  absl::StatusOr<std::unique_ptr<FileLock>> LockDirectory(const std::string& path) override {
    return RealFileSystem().LockDirectory(path);
  }
};

TEST_CASE("a disk that stays full ends the process; the summary is of what was stored, and says why") {
  FullDisk disk;  // outlives the process
  Running run;
  run.files = &disk;
  run.options.store_patience_ms = 100;
  run.Start();
  run.Join(WORKER, 1);
  disk.full = true;
  std::thread unanswered([&] {
    JoinRequest request;
    request.set_role(WORKER);
    request.set_nonce(2);
    JoinResponse response;
    grpc::ClientContext context;
    CHECK_FALSE(run.stub->Join(&context, request, &response).ok());
  });
  run.Wait();
  unanswered.join();
  CHECK(run.code == kExitFailed);
  const std::string summary = run.Summary();
  CHECK_THAT(summary, Catch::Contains("\"failed\"") && Catch::Contains("No space left on device") &&
                          Catch::Contains(run.options.state) && !Catch::Contains("worker 2"));
  // With room again the job goes on from there.
  disk.full = false;
  run.Start();
  CHECK(run.Join(WORKER, 1) == 1);
  CHECK(run.Join(WORKER, 3) == 2);
}

TEST_CASE("a config that does not parse, a held state and a taken port end the start, each named") {
  Running run;
  run.Start();
  SchedulerProcessOptions second = run.options;
  CHECK_THAT(Refused(second), Catch::Contains(run.options.state) && Catch::Contains("in use by another process"));
  second.state += "-2";
  const std::string address = *RealFileSystem().Read(run.options.address_file, 1000);
  second.listen = address.substr(0, address.find('\n'));
  CHECK_THAT(Refused(second), Catch::Contains("--listen=" + second.listen) && Catch::Contains("the port is in use"));
  second.listen = "127.0.0.1:0";
  second.overrides = {"train.epochz=3"};
  CHECK_THAT(Refused(second), Catch::Contains("epochz") && Catch::Contains("did you mean \"epochs\""));
}

TEST_CASE("a binary config runs as its text does; one with unknown fields is refused") {
  Running running;
  JobConfig job;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(kConfig, &job));
  const std::string text = running.options.config;
  running.options.config = text.substr(0, text.rfind('.')) + ".pb";
  REQUIRE(RealFileSystem().WriteAtomically(running.options.config, job.SerializeAsString()).ok());
  running.Start();
  running.process->Stop(15);
  running.Wait();
  CHECK(running.code == 128 + 15);

  Running other;
  job.mutable_train()->GetReflection()->MutableUnknownFields(job.mutable_train())->AddVarint(12345, 1);
  other.options.config = running.options.config;
  REQUIRE(RealFileSystem().WriteAtomically(other.options.config, job.SerializeAsString()).ok());
  CHECK_THAT(Refused(other.options), Catch::Contains("fields that this version does not know"));
}

TEST_CASE("a checkpoint folder that another job writes to, or that cannot be made, is refused at the start") {
  Running run;
  run.options.checkpoint_dir = run.options.state + "-checkpoints";
  run.Start();
  SchedulerProcessOptions second = run.options;
  second.state += "-2";
  CHECK_THAT(Refused(second), Catch::Contains("--checkpoint_dir: " + run.options.checkpoint_dir) && Catch::Contains("in use"));
  second.state += "-3";
  second.checkpoint_dir = run.options.config;  // a file
  CHECK_THAT(Refused(second), Catch::Contains("--checkpoint_dir: " + run.options.config) && Catch::Contains("no folder"));
  run.process->Stop(2);
  run.Wait();
  Running next;
  next.options.checkpoint_dir = run.options.checkpoint_dir;
  next.Start();  // free again
}

TEST_CASE("a state of another config is refused") {
  Running run;
  run.Start();
  run.process->Stop(2);
  run.Wait();
  SchedulerProcessOptions other = run.options;
  other.overrides = {"train.epochs=7"};
  CHECK_THAT(Refused(other), Catch::Contains("--state=" + run.options.state) && Catch::Contains("config"));
}

}  // namespace
}  // namespace tidegate
