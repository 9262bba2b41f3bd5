#include "server/rpc/server_process.h"

#include <grpcpp/client_context.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "common/checkpoint/checkpoint_reader.h"
#include "common/exit_codes.h"
#include "common/rpc/channel.h"
#include "proto/shard_service.grpc.pb.h"
#include "server/checkpoint/loaded_checkpoint.h"
#include "tests/fakes/fake_scheduler.h"

namespace tidegate {
namespace {

std::string NewFolder(const std::string& name) {
  const char* base = std::getenv("TEST_TMPDIR");
  std::string path = std::string(base != nullptr ? base : "/tmp") + "/" + name + "XXXXXX";
  REQUIRE(mkdtemp(path.data()) != nullptr);
  return path;
}

// A server on a thread of the test, with a scripted scheduler.
struct Running {
  explicit Running(ServerOptions options = {}) {
    scheduler.Update([](auto& s) { s.config.mutable_train()->set_staleness("4"); });
    if (options.scheduler.empty()) options.scheduler = scheduler.address();
    options.join_timeout_s = 10;
    options.executors = 2;
    process = std::make_unique<ServerProcess>(options, &RealFileSystem());
    thread = std::thread([this] { code = process->Run(); });
  }
  ~Running() {
    if (thread.joinable()) {
      process->Stop(SIGTERM);
      thread.join();
    }
  }
  int Wait() {
    thread.join();
    return code;
  }
  std::string Address() {
    REQUIRE(scheduler.WaitUntil([](const auto& s) { return !s.joins.empty(); }));
    std::string address;
    scheduler.Update([&](auto& s) { address = s.joins[0].address(); });
    return address;
  }
  void Open() {
    const std::string address = Address();
    scheduler.Update([&](auto& s) {
      s.routing.set_epoch(1);
      s.routing.set_shards(4);
      for (int i = 0; i < 4; ++i) s.routing.add_primary(1);
      Member* member = s.routing.add_servers();
      member->set_incarnation(1);
      member->set_address(address);
      Command command;
      command.set_id(1);
      TableSpec* spec = command.mutable_open_tables()->add_tables();
      spec->set_id(0);
      spec->set_name("emb");
      PartSpec* part = spec->add_parts();
      part->set_name("v");
      part->set_dim(2);
      part->mutable_init()->set_constant(0.5f);
      part->mutable_optimizer()->mutable_adagrad();
      s.commands.push_back(command);
    });
    REQUIRE(scheduler.WaitUntil([](const auto& s) { return s.results.size() == 1; }));
    scheduler.Update([](auto& s) { REQUIRE(s.results[0].error() == ""); });
  }
  CommandResult Do(Command command) {
    size_t before = 0;
    scheduler.Update([&](auto& s) {
      before = s.results.size();
      command.set_id(s.commands.back().id() + 1);
      s.commands.push_back(command);
    });
    REQUIRE(scheduler.WaitUntil([&](const auto& s) { return s.results.size() > before; }));
    CommandResult result;
    scheduler.Update([&](auto& s) { result = s.results.back(); });
    return result;
  }

  FakeScheduler scheduler;
  std::unique_ptr<ServerProcess> process;
  std::thread thread;
  int code = -1;
};

grpc::Status PushTo(const std::string& address, const std::vector<Key>& keys, float gradient) {
  const auto stub = ShardService::NewStub(MakeDataChannel(address, 1 << 26));
  PushRequest request;
  request.set_weight(1);
  TableGradients* table = request.add_tables();
  table->set_keys(std::string(reinterpret_cast<const char*>(keys.data()), keys.size() * 8));
  const std::vector<float> values(keys.size() * 2, gradient);
  table->set_values(std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4));
  grpc::ClientContext context;
  PushResponse response;
  return stub->Push(&context, request, &response);
}

std::vector<float> PullFrom(const std::string& address, const std::vector<Key>& keys) {
  const auto stub = ShardService::NewStub(MakeDataChannel(address, 1 << 26));
  PullRequest request;
  request.set_mode(EVAL);
  request.add_tables()->set_keys(
      std::string(reinterpret_cast<const char*>(keys.data()), keys.size() * 8));
  grpc::ClientContext context;
  PullResponse response;
  REQUIRE(stub->Pull(&context, request, &response).ok());
  std::vector<float> rows(keys.size() * 2);
  REQUIRE(response.tables(0).values().size() == rows.size() * 4);
  std::memcpy(rows.data(), response.tables(0).values().data(), rows.size() * 4);
  return rows;
}

}  // namespace

TEST_CASE("a server joins, opens tables, serves, and ends with the job") {
  Running running;
  running.Open();
  const std::string address = running.Address();
  REQUIRE(PushTo(address, {1, 2, 3}, 1).ok());
  CHECK(PullFrom(address, {9}) == std::vector<float>{0.5f, 0.5f});
  CHECK(PullFrom(address, {1})[0] < 0.5f);
  CHECK(running.scheduler.WaitUntil([](const auto& s) {
    const ServerLoad& load = s.last_heartbeat.server_load();
    return load.rows() == 3 && load.pushed_rows_total() == 3 && load.tables(0).name() == "emb";
  }));
  running.scheduler.Update([](auto& s) { s.phase = FINISHED; });
  CHECK(running.Wait() == kExitFinished);
  running.scheduler.Update([](auto& s) { CHECK(s.leaves.size() == 1); });
}

TEST_CASE("a server goes on serving while the scheduler is gone") {
  Running running;
  running.Open();
  const std::string address = running.Address();
  running.scheduler.Stop();
  REQUIRE(PushTo(address, {1}, 1).ok());
  CHECK(PullFrom(address, {1})[0] < 0.5f);
  running.scheduler.Restart();
  running.scheduler.Update([](auto& s) {
    s.phase = FAILED;
    s.message = "a reason";
  });
  CHECK(running.Wait() == kExitFailed);
}

TEST_CASE("a checkpoint holds what pulls answer, and nothing damaged is read") {
  Running running;
  running.Open();
  const std::string address = running.Address();
  std::vector<Key> keys;
  for (Key k = 0; k < 300; ++k) keys.push_back(k * k);
  REQUIRE(PushTo(address, keys, 0.25f).ok());
  const std::string folder = NewFolder("checkpoint");
  Command command;
  command.mutable_write_checkpoint()->set_directory(folder);
  command.mutable_write_checkpoint()->set_name("epoch-1");
  // An earlier job's manifest does not stand for what is written over its shards.
  REQUIRE(RealFileSystem().CreateDirectories(folder + "/epoch-1").ok());
  REQUIRE(RealFileSystem().WriteAtomically(folder + "/epoch-1/MANIFEST", "old").ok());
  const CommandResult result = running.Do(command);
  REQUIRE(result.error() == "");
  REQUIRE(result.files_size() == 4);

  const std::string directory = folder + "/epoch-1";
  CHECK(absl::IsNotFound(LoadedCheckpoint::Load(RealFileSystem(), directory).status()));
  CheckpointManifest manifest;
  manifest.set_format(kCheckpointFormat);
  manifest.set_shards(4);
  running.scheduler.Update([&](auto& s) {
    *manifest.mutable_tables() = s.commands[0].open_tables().tables();
  });
  *manifest.mutable_files() = result.files();
  REQUIRE(WriteManifest(RealFileSystem(), directory, manifest).ok());
  auto loaded = LoadedCheckpoint::Load(RealFileSystem(), directory);
  INFO(loaded.status().message());
  REQUIRE(loaded.ok());
  CHECK(loaded->rows() == 300);
  keys.push_back(77777);  // absent
  std::vector<float> rows(keys.size() * 2);
  REQUIRE(loaded->Gather(0, keys, rows).ok());
  CHECK(rows == PullFrom(address, keys));

  // The reader without server code sees the same rows.
  auto reader = CheckpointReader::Open(RealFileSystem(), directory);
  REQUIRE(reader.ok());
  size_t seen = 0;
  REQUIRE(reader->VisitAllRows([&](TableId, Key, std::span<const float> values) {
            seen += values.size() == 2 && values[0] == rows[0];
          }).ok());
  CHECK(seen == 300);

  const std::string path = directory + "/" + result.files(2).name();
  std::string bytes = *RealFileSystem().Read(path, 1 << 20);
  for (const bool truncate : {false, true}) {
    std::string bad = bytes;
    if (truncate) bad.pop_back();
    if (!truncate) bad[bad.size() / 2] ^= 4;
    REQUIRE(RealFileSystem().WriteAtomically(path, bad).ok());
    const absl::Status status = LoadedCheckpoint::Load(RealFileSystem(), directory).status();
    CHECK(absl::IsDataLoss(status));
    CHECK(std::string(status.message()).find(path) != std::string::npos);
  }
  REQUIRE(RealFileSystem().Remove(path).ok());
  CHECK(absl::IsDataLoss(LoadedCheckpoint::Load(RealFileSystem(), directory).status()));
}

TEST_CASE("a checkpoint that cannot be written is an error of the command") {
  Running running;
  running.Open();
  Command command;
  command.mutable_write_checkpoint()->set_directory("/proc/none");
  command.mutable_write_checkpoint()->set_name("x");
  const CommandResult result = running.Do(command);
  CHECK(result.code() != 0);
  CHECK(result.error().find("/proc/none") != std::string::npos);
}

TEST_CASE("the learning rate follows the scheduler's command") {
  Running running;
  running.Open();
  const std::string address = running.Address();
  REQUIRE(PushTo(address, {1}, 1).ok());
  Command command;
  command.mutable_set_learning_rate()->set_scale(0.5f);
  CHECK(running.Do(command).code() == 0);
  REQUIRE(PushTo(address, {2}, 1).ok());
  const float full = 0.5f - PullFrom(address, {1})[0];
  const float half = 0.5f - PullFrom(address, {2})[0];
  CHECK(half == Approx(full / 2));
}

TEST_CASE("exit codes say how a server ended") {
  SECTION("stopped by a signal") {
    Running running;
    running.Open();
    running.process->Stop(SIGINT);
    CHECK(running.Wait() == 128 + SIGINT);
    running.scheduler.Update([](auto& s) { CHECK(s.leaves.size() == 1); });
  }
  SECTION("emptied, to start again") {
    Running running;
    running.Open();
    running.scheduler.Update([](auto& s) {
      s.phase = FINISHED;
      s.message = "restart: its shards are on other servers";
    });
    CHECK(running.Wait() == kExitRestart);
    running.scheduler.Update([](auto& s) { CHECK(s.leaves.size() == 1); });
  }
  SECTION("removed") {
    Running running;
    running.Address();
    running.scheduler.Update([](auto& s) { s.rejoin = true; });
    CHECK(running.Wait() == kExitRemoved);
  }
  SECTION("refused") {
    FakeScheduler other;
    other.Update([](auto& s) {
      s.join_answer = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "servers are complete");
    });
    ServerOptions options;
    options.scheduler = other.address();
    Running running(options);
    CHECK(running.Wait() == kExitFailed);
  }
  SECTION("a port in use") {
    FakeScheduler other;
    ServerOptions options;
    options.listen = other.address();
    Running running(options);
    CHECK(running.Wait() == kExitUsage);
  }
  SECTION("stopped while joining") {
    ServerOptions options;
    options.scheduler = "127.0.0.1:1";
    Running running(options);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    running.process->Stop(SIGTERM);
    CHECK(running.Wait() == 128 + SIGTERM);
  }
}

}  // namespace tidegate
