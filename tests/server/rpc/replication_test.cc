#include "server/rpc/replication.h"

#include "server/rpc/connection_acceptor.h"
#include "tests/server/rpc/replica_rig.h"

namespace tidegate {
namespace {

constexpr Incarnation kA = 3, kB = 4, kC = 5;

PushRequest Push(Sequence sequence, float value, Key first = 1) {
  const std::vector<Key> keys = SomeKeys(first);
  return WorkerPush(11, sequence, static_cast<Clock>(sequence), keys, Gradients(keys.size(), value));
}

// A leads, B follows; strands cut differently.
struct Pair {
  explicit Pair(TimeMs grant_ms = 2000)
      : a(std::make_unique<Node>(Node::Settings{kA, 2, false, grant_ms})),
        b(std::make_unique<Node>(Node::Settings{kB, 3, false, grant_ms})) {
    for (Node* node : {b.get(), a.get()}) {
      node->Take(Replicated(5, {PlaceOf(*a), PlaceOf(*b)}));
      node->Open();
    }
  }
  std::unique_ptr<Node> a, b;
};

}  // namespace

TEST_CASE("an acknowledged push is at the backup, bit for bit") {
  Pair pair;
  for (Sequence sequence = 1; sequence <= 20; ++sequence) {
    pair.a->PushUntilTaken(Push(sequence, 0.25f * static_cast<float>(sequence), sequence));
  }
  CheckSame(*pair.a, *pair.b);
  CHECK(pair.a->RowsOf({20})[0] != 0);
  const auto sent = pair.a->replication.Collect();
  CHECK(sent.records >= 20);
  CHECK(sent.links.followers == 1);
  CHECK(pair.b->replication.Collect().applied_records >= 20);
}

TEST_CASE("a backup refuses the workers' messages") {
  Pair pair;
  PushResponse response;
  REQUIRE(pair.b->Push(Push(1, 1), &response).ok());
  CHECK(response.refused_shards_size() > 0);
}

TEST_CASE("when the primary dies, the promoted backup has every acknowledged push, and applies none twice") {
  Pair pair(100);
  for (Sequence sequence = 1; sequence <= 5; ++sequence) pair.a->PushUntilTaken(Push(sequence, 1));
  const std::vector<float> before = pair.a->RowsOf(SomeKeys());
  pair.a.reset();
  pair.b->Take(Replicated(6, {PlaceOf(*pair.b)}, 0, 6));
  PushRequest again = Push(5, 1);
  again.mutable_stamp()->set_epoch(6);
  PushResponse response;
  pair.b->PushUntilTaken(again, &response);
  CHECK(response.duplicate_rows() == SomeKeys().size());
  CHECK(pair.b->RowsOf(SomeKeys()) == before);
}

TEST_CASE("a push is not acknowledged before the backup has it; the backup may come later") {
  Node a({kA});
  a.Take(Replicated(5, {PlaceOf(a), {kB, "127.0.0.1:1"}}));  // where nobody listens
  a.Open();
  auto push = std::async(std::launch::async, [&] { return a.Push(Push(1, 1)); });
  Node::WaitFor([&] { return a.HeldPushes() > 0; });
  Node::WaitFor([&] { return a.Heartbeat().unreachable_size() == 1; });
  CHECK(a.Heartbeat().unreachable(0) == kB);
  CHECK(a.reports > 0);
  CHECK(push.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
  Node b({kB});
  for (Node* node : {&b, &a}) node->Take(Replicated(6, {PlaceOf(a), PlaceOf(b)}));
  b.Open();
  CHECK(push.get().ok());
  CheckSame(a, b);
  CHECK(a.Heartbeat().unreachable_size() == 0);
}

TEST_CASE("a table without the backup ends the wait for it, and nothing else does") {
  Node a({kA});
  a.Take(Replicated(5, {PlaceOf(a), {kB, "127.0.0.1:1"}}));
  a.Open();
  auto push = std::async(std::launch::async, [&] { return a.Push(Push(1, 1)); });
  Node::WaitFor([&] { return a.HeldPushes() > 0; });
  a.Take(Replicated(6, {PlaceOf(a)}));
  CHECK(push.get().ok());
  CHECK(a.Heartbeat().unreachable_size() == 0);
  CHECK(a.replication.Collect().links.unacknowledged_records == 0);
}

TEST_CASE("a follower that takes everything and never answers is reported as unreachable, again and again") {
  std::atomic<int> streams{0};
  std::weak_ptr<ReplicaPeer> last;
  ReplicaServiceHost silent([&](const std::shared_ptr<ReplicaPeer>& peer, OwnedBytes) {
    if (last.lock() != peer) ++streams;
    last = peer;
  });
  ConnectionAcceptor acceptor;
  auto listening = Listen({}, [&](grpc::ServerBuilder& b) {
    acceptor.Register(b);
    silent.Register(b);
  });
  REQUIRE(listening.ok());
  acceptor.Start();
  silent.Start({});
  {
    Node a({kA, 1, false, 40});
    a.Take(Replicated(5, {PlaceOf(a), {kB, listening->address}}));
    Node::WaitFor([&] { return a.Heartbeat().unreachable_size() == 1; });
    Node::WaitFor([&] { return streams >= 3; });
    CHECK(a.Heartbeat().unreachable_size() == 1);
  }
  silent.CloseStreams();
  listening->server->Shutdown();
  acceptor.Stop();
  silent.Join();
}

TEST_CASE("pulls are served while the backup grants, and refused once its last grant has run out") {
  Pair pair(100);
  pair.a->PushUntilTaken(Push(1, 1));
  CHECK(pair.a->RowsOf({1}).size() == kDim);
  pair.b.reset();
  std::vector<float> rows;
  Node::WaitFor([&] {
    const grpc::Status status = pair.a->Pull({1}, &rows);
    if (!status.ok()) CHECK(status.error_code() == grpc::StatusCode::UNAVAILABLE);
    return !status.ok();
  });
  CHECK(pair.a->engine.Collect().shards.pulls_without_grant > 0);
}

TEST_CASE("a deposed primary acknowledges nothing and learns of the newer table") {
  Pair pair;
  pair.a->PushUntilTaken(Push(1, 1));
  pair.b->Take(Replicated(6, {PlaceOf(*pair.b)}, 0, 6));
  auto push = std::async(std::launch::async, [&] { return pair.a->Push(Push(2, 1)); });
  Node::WaitFor([&] { return pair.a->newest_epoch_seen == 6; });
  CHECK(push.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
  pair.a->Take(Replicated(6, {PlaceOf(*pair.b)}, 0, 6));
  const grpc::Status status = push.get();
  CHECK(status.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(pair.b->replication.Collect().refused_grants + pair.b->replication.Collect().applied_records > 0);
}

TEST_CASE("a shard is handed over: drained by its primary, led by its successor, followed by the one before") {
  Pair pair;
  for (Sequence sequence = 1; sequence <= 10; ++sequence) pair.a->PushUntilTaken(Push(sequence, 1, sequence * 7));
  RoutingTable table = Replicated(6, {PlaceOf(*pair.a), PlaceOf(*pair.b)});
  for (uint32_t shard = 0; shard < kShards; ++shard) table.add_successor(kB);
  for (Node* node : {pair.a.get(), pair.b.get()}) node->Take(table);
  Node::WaitFor([&] { return pair.a->Heartbeat().drained_size() == kShards; });
  CHECK(pair.a->Heartbeat().drained(0).epoch() == 6);
  CHECK(pair.a->reports > 0);
  CHECK(pair.a->Push(Push(11, 1)).error_code() == grpc::StatusCode::UNAVAILABLE);
  table = Replicated(7, {PlaceOf(*pair.b), PlaceOf(*pair.a)}, 0, 7);
  for (uint32_t shard = 0; shard < kShards; ++shard) table.add_drained_epoch(7);
  for (Node* node : {pair.b.get(), pair.a.get()}) node->Take(table);
  CHECK(pair.a->Heartbeat().drained_size() == 0);
  PushRequest push = Push(11, 2);
  push.mutable_stamp()->set_epoch(7);
  pair.b->PushUntilTaken(push);
  CheckSame(*pair.b, *pair.a);
  CHECK(pair.b->Heartbeat().refill_size() == 0);
  CHECK(pair.a->Heartbeat().refill_size() == 0);
}

TEST_CASE("a joining replica is filled while pushes go on, is said to be in sync, and is then equal") {
  Pair pair;
  for (Sequence sequence = 1; sequence <= 10; ++sequence) pair.a->PushUntilTaken(Push(sequence, 1, sequence * 7));
  Node c({kC, 1});
  const std::vector<Place> all = {PlaceOf(*pair.a), PlaceOf(*pair.b), PlaceOf(c)};
  for (Node* node : {&c, pair.b.get(), pair.a.get()}) node->Take(Replicated(6, all, kC));
  c.Open();
  Sequence sequence = 11;
  Node::WaitFor([&] {
    pair.a->PushUntilTaken(Push(sequence, 0.5f, sequence * 3));
    ++sequence;
    return pair.a->Heartbeat().in_sync_size() == kShards;
  });
  const HeartbeatRequest heartbeat = pair.a->Heartbeat();
  CHECK(heartbeat.in_sync(0).server() == kC);
  CHECK(heartbeat.in_sync(0).epoch() == 6);
  // From now on a push waits for it, recorded or not.
  pair.a->PushUntilTaken(Push(sequence, 2));
  CheckSame(*pair.a, c);
  for (Node* node : {&c, pair.b.get(), pair.a.get()}) node->Take(Replicated(7, all));
  CHECK(pair.a->Heartbeat().in_sync_size() == 0);
  CHECK(pair.a->replication.Collect().fill_bytes > 0);
}

TEST_CASE("replicas are compared all the time; equal ones are left alone") {
  Node a({kA, 2, false, 2000, 20}), b({kB});
  for (Node* node : {&b, &a}) {
    node->Take(Replicated(5, {PlaceOf(a), PlaceOf(b)}));
    node->Open();
  }
  a.PushUntilTaken(Push(1, 1));
  const uint64_t before = b.replication.Collect().applied_records;
  Node::WaitFor([&] { return b.replication.Collect().applied_records > before + 20; });
  CHECK(b.engine.Collect().shards.digest_mismatches == 0);
  CHECK(b.Heartbeat().refill_size() == 0);
}

TEST_CASE("a copy that is unlike its primary's is found and reported") {
  Node a({kA, 2, false, 2000, 20}), b({kB});
  for (Node* node : {&b, &a}) {
    node->Take(Replicated(5, {PlaceOf(a), PlaceOf(b)}));
    node->Open();
  }
  a.PushUntilTaken(Push(1, 1));
  REQUIRE(b.engine.VisitShard(3, [](ShardGroup& group) {
    TableGroup& table = group.mutable_table(0);
    table.shard(table.LocalOfShard(3)).Clear();
  }).ok());
  Node::WaitFor([&] { return b.Heartbeat().refill_size() > 0; });
  CHECK(b.Heartbeat().refill(0) == 3);
  CHECK(b.reports > 0);
}

TEST_CASE("at staleness 0 an acknowledgement says that the clock is applied at the backup too") {
  Node a({kA, 2, true}), b({kB, 3, true});
  for (Node* node : {&b, &a}) {
    node->Take(Replicated(5, {PlaceOf(a), PlaceOf(b)}));
    node->Open();
  }
  const auto hello = [&](Node& node, Incarnation worker) {
    grpc::ClientContext context;
    ClockResponse response;
    REQUIRE(node.stub->Clock(&context, Cluster::Announcement(worker, 0, -2), &response).ok());
    return response.min_clock();
  };
  Node::WaitFor([&] { return a.HeldPushes() == 0; });
  for (Incarnation worker : {11, 12}) CHECK(hello(a, worker) == -1);
  const std::vector<Key> keys = SomeKeys();
  auto first = std::async(std::launch::async, [&] { return a.Push(WorkerPush(11, 1, 0, keys, Gradients(keys.size(), 1))); });
  const grpc::Status second = a.Push(WorkerPush(12, 1, 0, keys, Gradients(keys.size(), 3)));
  INFO(second.error_message());
  CHECK(second.ok());
  CHECK(first.get().ok());
  CheckSame(a, b);
  for (ShardId shard = 0; shard < kShards; ++shard) {
    REQUIRE(b.engine.VisitShard(shard, [&](ShardGroup& group) { CHECK(group.AppliedClock(shard) == 0); }).ok());
  }
}

TEST_CASE("what is no message of replication, or is meant for another process, ends the stream") {
  Node b({kB});
  auto stub = ReplicaService::NewStub(MakeDataChannel(b.address, 1 << 20));
  const auto end_of = [&](const ReplicaRequest& request) {
    grpc::ClientContext context;
    auto io = stub->Replicate(&context);
    REQUIRE(io->Write(request));
    ReplicaResponse ignored;
    while (io->Read(&ignored)) {
    }
    return io->Finish().error_code();
  };
  ReplicaRequest request;
  CHECK(end_of(request) == grpc::StatusCode::INVALID_ARGUMENT);  // no body
  request.mutable_keep_alive();
  request.set_generation(kGeneration);
  request.set_receiver(kC);
  request.set_sender(kA);
  CHECK(end_of(request) == grpc::StatusCode::FAILED_PRECONDITION);
  request.set_receiver(kB);
  request.set_generation(kGeneration + 1);
  CHECK(end_of(request) == grpc::StatusCode::FAILED_PRECONDITION);
  request.set_generation(kGeneration);
  request.set_sender(kB);
  CHECK(end_of(request) == grpc::StatusCode::INVALID_ARGUMENT);
  b.Take(Replicated(5, {{kA, "127.0.0.1:1"}, PlaceOf(b)}));
  b.Open();
  request.set_sender(kA);
  request.set_epoch(5);
  request.set_index(1);
  request.mutable_control()->mutable_sweep()->set_table(77);
  CHECK(end_of(request) != grpc::StatusCode::OK);
}

TEST_CASE("a server with records that nobody acknowledges still ends") {
  auto a = std::make_unique<Node>(Node::Settings{kA});
  a->Take(Replicated(5, {PlaceOf(*a), {kB, "127.0.0.1:1"}}));
  a->Open();
  auto push = std::async(std::launch::async, [&] { return a->Push(Push(1, 1)); });
  Node::WaitFor([&] { return a->HeldPushes() > 0; });
  std::thread end([&] { a.reset(); });
  CHECK(push.get().error_code() == grpc::StatusCode::UNAVAILABLE);
  end.join();
}

}  // namespace tidegate
