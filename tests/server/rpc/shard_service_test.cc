#include "server/rpc/shard_service.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/rpc/shard_rig.h"

namespace tidegate {

TEST_CASE("a guest's push changes rows exactly as SGD says, on any number of executors") {
  for (int executors : {1, 3}) {
    Cluster cluster({.executors = executors});
    std::vector<Key> keys;
    std::vector<float> gradients;
    for (Key k = 0; k < 500; ++k) {
      keys.push_back(k * 7919);
      for (uint32_t i = 0; i < kDim; ++i) gradients.push_back(static_cast<float>(k) + 0.25f * i);
    }
    REQUIRE(cluster.Push(GuestPush(keys, gradients, 2)).ok());
    keys.push_back(123456789);  // absent: the initialiser
    const std::vector<float> rows = cluster.RowsOf(keys);
    REQUIRE(rows.size() == keys.size() * kDim);
    for (size_t i = 0; i < gradients.size(); ++i) {
      REQUIRE(rows[i] == 0.0f - kLearningRate * (gradients[i] * 0.5f));
    }
    for (size_t i = gradients.size(); i < rows.size(); ++i) CHECK(rows[i] == 0);
    CHECK(cluster.engine.Collect().tables.at(0).rows == 500);
  }
}

TEST_CASE("a worker's repeated push is applied once") {
  Cluster cluster({.executors = 2});
  cluster.Announce(11, 0);
  const PushRequest push = WorkerPush(11, 1, 0, {1, 2, 3}, std::vector<float>(12, 1.0f));
  PushResponse response;
  REQUIRE(cluster.Push(push, &response).ok());
  CHECK(response.duplicate_rows() == 0);
  REQUIRE(cluster.Push(push, &response).ok());
  CHECK(response.duplicate_rows() == 3);
  CHECK(cluster.RowsOf({1})[0] == -kLearningRate);
}

TEST_CASE("a refused message changes nothing, and says why") {
  Cluster cluster({.executors = 2});
  REQUIRE(cluster.Push(GuestPush({1}, {1, 1, 1, 1})).ok());
  const float nan = std::numeric_limits<float>::quiet_NaN();

  PushRequest request = GuestPush({1, 2}, {1, 1, 1, 1, 1, nan, 1, 1});
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(cluster.engine.Collect().refused.non_finite == 1);
  request = GuestPush({1, 2}, {1, 1, 1, 1});
  grpc::Status status = cluster.Push(request);
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(status.error_message().find("16") != std::string::npos);  // the bytes that came
  request = GuestPush({1}, {1, 1, 1, 1});
  request.mutable_tables(0)->set_keys("odd");
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  request = GuestPush({1}, {1, 1, 1, 1});
  request.mutable_tables(0)->set_table(7);
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::NOT_FOUND);
  request = GuestPush({1}, {1, 1, 1, 1}, -1);
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  request = GuestPush({1}, {1, 1, 1, 1});
  request.mutable_stamp()->set_generation(kGeneration + 1);
  status = cluster.Push(request);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message().find("generation") != std::string::npos);

  PullRequest pull;
  pull.set_mode(EVAL);
  pull.add_tables()->set_table(3);
  PullResponse response;
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::NOT_FOUND);

  CHECK(cluster.RowsOf({1, 2}) ==
        std::vector<float>{-kLearningRate, -kLearningRate, -kLearningRate, -kLearningRate, 0, 0, 0, 0});
  CHECK(cluster.engine.Collect().refused.pushes >= 4);
  CHECK(cluster.engine.Collect().shards.pushes_refused_generation == 1);
  request.mutable_tables(0)->set_keys(Pack<Key>({1, 2, 3, 4, 5, 6, 7, 8}));
  request.mutable_tables(0)->set_values(std::string(8 * 16, '\0'));
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(cluster.engine.Collect().shards.pushes_refused_generation == 2);
}

TEST_CASE("a newer epoch sets off a fetch of the routing table, an older one is served") {
  Cluster cluster({});
  cluster.Announce(11, 0);
  PullResponse response;
  PullRequest pull = WorkerPull(11, 0, -1, {1});
  pull.mutable_stamp()->set_epoch(4);
  CHECK(cluster.Pull(pull, &response).ok());
  CHECK(response.epoch() == 5);
  CHECK(cluster.newest_epoch_seen == 0);
  pull.mutable_stamp()->set_epoch(6);
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(cluster.newest_epoch_seen == 6);
}

TEST_CASE("before it has joined and opened tables a server asks to try again") {
  Cluster cluster({.open = false});
  PullRequest pull;
  pull.add_tables()->set_keys(Pack<Key>({1}));
  PullResponse response;
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::UNAVAILABLE);
  cluster.engine.Configure({});
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::UNAVAILABLE);
}

TEST_CASE("the memory limit refuses pushes that need new rows and nothing else") {
  Cluster cluster({.memory_limit_bytes = 1});
  grpc::Status status = cluster.Push(GuestPush({1}, {1, 1, 1, 1}));
  CHECK(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(status.error_message().find("--memory_limit_bytes") != std::string::npos);
  CHECK(cluster.RowsOf({1}) == std::vector<float>(4));
}

TEST_CASE("at staleness 0 a push is acknowledged when all workers' are in, and applied as one") {
  for (int executors : {1, 3}) {
    Cluster cluster({.executors = executors, .synchronous = true});
    cluster.Announce(11, 0);
    cluster.Announce(12, 0);
    std::atomic<bool> first_done = false;
    grpc::Status first;
    std::thread waiting([&] {
      first = cluster.Push(WorkerPush(11, 1, 0, {1, 2}, {3, 3, 3, 3, 1, 1, 1, 1}, 3));
      first_done = true;
    });
    while (cluster.engine.Collect().held_pushes != static_cast<uint64_t>(executors)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(!first_done);
    CHECK(cluster.RowsOf({1, 2}) == std::vector<float>(8));
    REQUIRE(cluster.Push(WorkerPush(12, 1, 0, {1}, {1, 1, 1, 1}, 1)).ok());
    waiting.join();
    CHECK(first.ok());
    // sum of gradients over sum of weights: (3 + 1) / 4 and 1 / 4.
    const std::vector<float> rows = cluster.RowsOf({1, 2});
    CHECK(rows[0] == -kLearningRate);
    CHECK(rows[4] == -kLearningRate * 0.25f);
    PullResponse response;
    REQUIRE(cluster.Pull(WorkerPull(11, 1, 0, {1}), &response).ok());
    CHECK(response.min_clock() == 0);
  }
}

TEST_CASE("Hello on several strands counts a joiner at the same clock on all of them") {
  Cluster cluster({.executors = 3});
  cluster.Announce(11, 0);
  cluster.Announce(11, 1, 6);
  CHECK(cluster.Announce(12, 0).min_clock() == 6);
  CHECK(cluster.Announce(12, 0).min_clock() == 6);  // repeated: the same answer
  CHECK(cluster.engine.Collect().released_clock == 6);
  cluster.Announce(11, 2, 9);
  CHECK(cluster.engine.Collect().released_clock == 6);  // 12 holds it
}

}  // namespace tidegate
