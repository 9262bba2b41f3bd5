// A server's part in replication: what server/rpc does with streams and threads around server/replication's cores.

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/wire/replica_wire.h"
#include "tests/simulation/sim_server.h"

namespace tidegate::simulation {
namespace {

constexpr TimeMs kTickMs = 10;
constexpr TimeMs kReconnectMs = 30;
constexpr uint64_t kTicksPerDigest = 8;
constexpr size_t kFillBytes = 300;
constexpr size_t kFillAheadBytes = 2000;
constexpr TimeMs kGrantMs = 500;
// "Peers" of a strand, beside the connections of workers: each a sequence of work that keeps its order.
constexpr int kFollowerPeers = 100'000;
constexpr int kLeaderPeers = 200'000;

int PeerOf(int first, Incarnation server) { return first + static_cast<int>(server); }

bool Follows(const Routing& routing, ShardId shard, Incarnation server) {
  const auto backups = routing.BackupsOf(shard);
  return routing.JoiningOf(shard) == server || std::find(backups.begin(), backups.end(), server) != backups.end();
}

}  // namespace

// A record on its way through the strands.
struct SimServer::Share {
  std::shared_ptr<const std::string> bytes;
  wire::ReplicaRequest request;
  RecordSplit split;
  Inbox::Ticket ticket;
};

// ---- life ----

void SimServer::Boot() {
  Begin();
  Join(1000 + static_cast<uint64_t>(id()) + 1'000'000 * boots_++, absl::StrCat(index_));
}

void SimServer::Crash() {
  world_->trace->Line(world_->now(), "server_down", {{"server", static_cast<int64_t>(incarnation())}});
  world_->checkers->Tell(&Checker::OnServerGone, world_->now(), incarnation());
  lost_ = incarnation();
  EndSession();
  Stop();
  open_.clear();
  followers_.clear();
  leaders_.clear();
  strands_.clear();
  catalog_.reset();
  newest_.reset();
  routing_.reset();
  taking_ = false;
  epoch_ = 0;
  strand_of_shard_.clear();
  grants_.reset();
  in_sync_.clear();
  refill_.clear();
  drained_.clear();
  unreachable_.clear();
}

void SimServer::EndDrained() {
  const RoutingTable table = world_->scheduler->stored().routing();
  bool holds = false;
  for (const auto* copies : {&table.primary(), &table.backups(), &table.joining()}) {
    holds = holds || std::find(copies->begin(), copies->end(), incarnation()) != copies->end();
  }
  if (!holds && (taking_ || newest_ != routing_)) return Later(1, [this] { EndDrained(); });
  for (const ShardGroup* group : groups()) {
    const auto shards = group->shards();
    holds = holds || std::any_of(shards.begin(), shards.end(), [](ShardId s) { return s != ShardMap::kVacant; });
  }
  if (holds) {
    world_->report->Fail("drain", world_->now(), absl::StrCat("server ", incarnation(), " is drained, but has shards"));
  }
  world_->trace->Line(world_->now(), "drained", {{"server", static_cast<int64_t>(incarnation())}});
  world_->cut_drain = nullptr;
  Leave();
  Crash();
  ended_ = true;
}

void SimServer::OnJoined() {
  ShardGroup::Options options;
  options.synchronous = world_->plan->synchronous;
  options.drop_slowest = world_->plan->drop_slowest;
  options.generation = world_->plan->generation;
  if (world_->plan->replicated()) {
    options.self = incarnation();
    options.durable = true;
  }
  for (uint32_t i = 0; i < world_->plan->strands; ++i) {
    Strand& strand = strands_.emplace_back();
    strand.index = static_cast<int>(i);
    strand.group = std::make_unique<ShardGroup>(options, static_cast<RowSink*>(this));
  }
  grants_ = std::make_unique<GivenGrants>(join().grant_ms() > 0 ? join().grant_ms() : kGrantMs);
  StartHeartbeats();
  if (world_->plan->replicated()) Later(kTickMs, [this] { Replicate(); });
}

void SimServer::OnRouting(const RoutingTable& table) {
  world_->DrainStep();
  auto routing = Routing::FromProto(table);
  TG_CHECK(routing.ok()) << routing.status();
  newest_ = std::make_shared<const Routing>(*std::move(routing));
  TakeRouting();
}

// One table after another; those that come meanwhile are passed over but for the newest.
void SimServer::TakeRouting() {
  if (taking_ || newest_ == routing_) return;
  taking_ = true;
  const std::shared_ptr<const Routing> next = newest_;
  const TimeMs serves_from = grants_->TakeRouting(routing_.get(), *next, incarnation());
  const std::vector<ShardId> own = next->ReplicasOf(incarnation());
  auto lanes = std::make_shared<std::vector<uint8_t>>(next->shards(), 0);
  auto shards = std::make_shared<std::vector<std::vector<ShardId>>>(strands_.size());
  for (ShardId shard = 0; shard < next->shards(); ++shard) {
    (*lanes)[shard] = static_cast<uint8_t>(shard % strands_.size());
  }
  for (size_t i = 0; i < own.size(); ++i) {
    if (!world_->plan->replicated()) (*lanes)[own[i]] = static_cast<uint8_t>(i % strands_.size());
    (*shards)[(*lanes)[own[i]]].push_back(own[i]);
  }
  OnEvery(
      [this, next, shards, serves_from](Strand* strand) {
        GroupCall info = Before(*strand);
        strand->shards = (*shards)[static_cast<size_t>(strand->index)];
        const absl::Status status = strand->group->SetRouting(*next, strand->shards, serves_from, &strand->effects);
        if (!status.ok()) world_->report->Fail("replicas", world_->now(), std::string(status.message()));
        strand->routing = next;
        Deliver(strand, GroupCall::kRouting, nullptr, info);
      },
      [this, next, lanes] {
        routing_ = next;
        epoch_ = next->epoch();
        log2_shards_ = next->log2_shards();
        strand_of_shard_ = *lanes;
        taking_ = false;
        if (world_->plan->replicated()) FollowRouting();
        TakeRouting();
      });
}

void SimServer::OpenTables(const std::vector<TableSpec>& specs, float learning_rate_scale) {
  auto catalog = TableCatalog::FromSpecs(specs);
  TG_CHECK(catalog.ok()) << catalog.status();
  OnEvery(
      [this, catalog = *catalog, learning_rate_scale](Strand* strand) {
        const absl::Status status = strand->group->OpenTables(catalog);
        TG_CHECK(status.ok()) << status;
        GroupCall info = Before(*strand);
        strand->group->SetLearningRateScale(learning_rate_scale);
        info.learning_rate_scale = learning_rate_scale;
        Deliver(strand, GroupCall::kLearningRate, nullptr, info);
      },
      [this, catalog = *catalog] { catalog_ = catalog; });
}

void SimServer::FollowRouting() {
  if (catalog_ == nullptr && join().tables_size() > 0) {
    OpenTables({join().tables().begin(), join().tables().end()},
               join().learning_rate_scale() > 0 ? join().learning_rate_scale() : 1);
  }
  std::map<Incarnation, uint64_t> lanes;
  for (ShardId shard = 0; shard < routing_->shards(); ++shard) {
    if (routing_->PrimaryOf(shard) != incarnation()) continue;
    const uint64_t lane = uint64_t{1} << strand_of_shard_[shard];
    for (Incarnation backup : routing_->BackupsOf(shard)) lanes[backup] |= lane;
    if (routing_->JoiningOf(shard) != 0) lanes[routing_->JoiningOf(shard)] |= lane;
  }
  for (const auto& [server, mask] : lanes) FollowerOf(server, *routing_);
  for (auto it = followers_.begin(); it != followers_.end();) {
    const auto& members = routing_->members();
    const bool member = std::any_of(members.begin(), members.end(),
                                    [&](const Routing::Server& m) { return m.incarnation == it->first; });
    Follower& follower = it->second;
    follower.lanes = lanes[it->first];
    follower.outbox.SetRouting(epoch_, follower.lanes);
    if (follower.lanes == 0 && std::exchange(follower.connected, false)) {
      ++follower.link;
      follower.outbox.Disconnected();
    }
    it = member ? std::next(it) : followers_.erase(it);
  }
  std::erase_if(unreachable_, [&](Incarnation server) {
    const auto& members = routing_->members();
    return std::none_of(members.begin(), members.end(),
                        [&](const Routing::Server& m) { return m.incarnation == server; });
  });
  std::erase_if(refill_, [&](ShardId shard) {
    const auto backups = routing_->BackupsOf(shard);
    return std::find(backups.begin(), backups.end(), incarnation()) == backups.end();
  });
  for (const auto& [server, mask] : lanes) {
    if (mask != 0) Connect(server);
  }
}

void SimServer::FillReports(HeartbeatRequest* request) {
  for (auto it = in_sync_.begin(); it != in_sync_.end();) {
    const auto& [shard, server] = it->first;
    if (newest_ != nullptr && newest_->JoiningOf(shard) != server) {
      it = in_sync_.erase(it);
      continue;
    }
    InSync* report = request->add_in_sync();
    report->set_shard(shard);
    report->set_server(server);
    report->set_epoch(it->second);
    ++it;
  }
  std::erase_if(drained_, [this](const auto& drained) {
    return newest_ != nullptr && (newest_->PrimaryOf(drained.first) != incarnation() || newest_->SuccessorOf(drained.first) == 0);
  });
  for (const auto& [shard, epoch] : drained_) {
    Drained* report = request->add_drained();
    report->set_shard(shard);
    report->set_epoch(epoch);
  }
  for (ShardId shard : refill_) request->add_refill(shard);
  for (Incarnation server : unreachable_) request->add_unreachable(server);
}

void SimServer::Replicate() {
  ++ticks_;
  if (ended_) return;
  size_t unacknowledged = 0;
  std::vector<Incarnation> connected;
  for (auto& [server, follower] : followers_) {
    unacknowledged += follower.outbox.unacknowledged_bytes();
    connected.push_back(server);
  }
  for (Incarnation server : connected) SendRecords(server);
  for (Strand& strand : strands_) {
    if (catalog_ == nullptr || routing_ == nullptr) break;
    const bool digests = ticks_ % kTicksPerDigest == 0;
    if (unacknowledged > kFillAheadBytes && !digests) continue;
    RunOn(&strand, kControl, [this, s = &strand, digests] {
      GroupCall info = Before(*s);
      const bool filling = s->group->FillStep(kFillBytes, &s->effects);
      s->group->HandoverStep(&s->effects);
      if (filling || !s->effects.empty()) Deliver(s, GroupCall::kFill, nullptr, info);
      if (!digests) return;
      info = Before(*s);
      s->group->AppendDigests(1, &s->effects);
      Deliver(s, GroupCall::kDigests, nullptr, info);
    });
  }
  Later(kTickMs, [this] { Replicate(); });
}

// ---- to followers ----

SimServer::Follower* SimServer::FollowerOf(Incarnation server, const Routing& routing) {
  const auto it = followers_.find(server);
  if (it != followers_.end()) return &it->second;
  for (const Routing::Server& member : routing.members()) {
    if (member.incarnation != server) continue;
    Outbox::Options options;
    options.generation = world_->plan->generation;
    options.self = incarnation();
    options.follower = server;
    options.grant_ms = join().grant_ms() > 0 ? join().grant_ms() : kGrantMs;
    options.resend_ms = 1000;
    options.window_bytes = 4000;
    int index = 0;
    TG_CHECK(absl::SimpleAtoi(member.address, &index));
    return &followers_.try_emplace(server, options, index).first->second;
  }
  return nullptr;
}

void SimServer::Connect(Incarnation server) {
  const auto it = followers_.find(server);
  if (it == followers_.end() || it->second.connected || it->second.lanes == 0) return;
  SimServer* process = world_->servers.at(static_cast<size_t>(it->second.index));
  const bool gone = !process->up() || process->incarnation() != server;
  if (gone || world_->network->IsCut(id(), process->id())) {
    if (gone) LosePeer(server);
    return Later(kReconnectMs, [this, server] { Connect(server); });
  }
  unreachable_.erase(server);
  it->second.connected = true;
  ++it->second.link;
  it->second.outbox.Connected(now());
  SendRecords(server);
}

void SimServer::Break(Incarnation server, uint64_t link) {
  const auto it = followers_.find(server);
  if (it == followers_.end() || it->second.link != link || !it->second.connected) return;
  it->second.connected = false;
  ++it->second.link;
  it->second.outbox.Disconnected();
  Later(kReconnectMs, [this, server] { Connect(server); });
}

void SimServer::LosePeer(Incarnation server) {
  if (ended_ || newest_ == nullptr) return;
  const auto& members = newest_->members();
  const bool member = std::any_of(members.begin(), members.end(),
                                  [&](const Routing::Server& m) { return m.incarnation == server; });
  if (!member || server == incarnation() || !unreachable_.insert(server).second) return;
  HeartbeatNow();
}

void SimServer::SendRecords(Incarnation server) {
  const auto it = followers_.find(server);
  if (it == followers_.end() || !it->second.connected) return;
  Follower& follower = it->second;
  SimServer* process = world_->servers.at(static_cast<size_t>(follower.index));
  const uint64_t link = follower.link;
  const uint64_t of_life = life();
  while (follower.connected) {
    std::optional<Outbox::Message> message = follower.outbox.Next(now());
    if (!message) return;
    auto bytes = std::make_shared<const std::string>(wire::Flatten(wire::EncodeReplicaRequest(message->request)));
    world_->network->SendInOrder(
        this, process,
        [this, process, bytes, server, link, of_life] {
          process->ReceiveReplica(bytes, [this, process, server, link, of_life](const ReplicaResponse& response) {
            world_->network->SendInOrder(
                process, this,
                [this, response, server, link] {
                  const auto found = followers_.find(server);
                  if (found != followers_.end() && found->second.link == link) TakeAnswer(server, response);
                },
                [this, server, link, of_life] {
                  if (up() && life() == of_life) Break(server, link);
                });
          });
        },
        [this, server, link] { Break(server, link); });
  }
}

void SimServer::TakeAnswer(Incarnation server, const ReplicaResponse& response) {
  world_->DrainStep();
  Follower& follower = followers_.at(server);
  const Outbox::Outcome outcome = follower.outbox.Take(response, now());
  const int peer = PeerOf(kFollowerPeers, server);
  for (const Outbox::Acknowledged& ack : outcome.acknowledged) {
    Strand* strand = &strands_.at(ack.lane);
    RunOn(strand, peer, [this, strand, server, index = ack.index] {
      GroupCall info = Before(*strand);
      strand->group->Acknowledged(server, index, &strand->effects);
      Deliver(strand, GroupCall::kAcknowledged, nullptr, info);
    });
  }
  if (outcome.granted_until > 0) {
    for (Strand& strand : strands_) {
      RunOn(&strand, peer, [this, s = &strand, server, until = outcome.granted_until] {
        s->group->SetNow(now());
        s->group->SetGrant(server, until);
      });
    }
  }
  if (outcome.newer_epoch > 0) HeartbeatNow();
  SendRecords(server);
}

void SimServer::TakeReplication(Strand* strand, const ShardEffects& effects) {
  std::set<Incarnation> to;
  for (const OutRecord& record : effects.records) {
    Follower* follower = FollowerOf(record.follower, *strand->routing);
    if (follower == nullptr) continue;
    follower->outbox.Append(static_cast<uint32_t>(strand->index), record);
    to.insert(record.follower);
  }
  for (Incarnation server : to) SendRecords(server);
  for (const ReplicaInSync& replica : effects.in_sync) {
    world_->trace->Line(world_->now(), "in_sync", {{"shard", replica.shard}, {"server", static_cast<int64_t>(replica.server)}});
    in_sync_[{replica.shard, replica.server}] = strand->routing->epoch();
  }
  for (ShardId shard : effects.diverged) refill_.insert(shard);
  for (ShardId shard : effects.drained) {
    world_->trace->Line(world_->now(), "handed_over", {{"shard", shard}, {"server", static_cast<int64_t>(incarnation())}});
    drained_[shard] = strand->routing->epoch();
  }
  if (!effects.in_sync.empty() || !effects.diverged.empty() || !effects.drained.empty()) HeartbeatNow();
}

// ---- from leaders ----

void SimServer::ReceiveReplica(std::shared_ptr<const std::string> bytes, ReplicaAnswer answer) {
  if (ended_ || strands_.empty()) return;
  world_->DrainStep();
  auto parsed = wire::ParseReplicaRequest(std::as_bytes(std::span(*bytes)));
  TG_CHECK(parsed.ok()) << parsed.status();
  if (parsed->receiver != incarnation() || parsed->generation != world_->plan->generation) return;
  const Incarnation sender = parsed->sender;
  Leader& leader = leaders_.try_emplace(sender, sender).first->second;
  leader.answer = std::move(answer);
  Inbox::Now known;
  known.epoch = epoch_;
  known.now = now();
  known.sender_leads = false;
  for (ShardId shard = 0; routing_ != nullptr && shard < routing_->shards(); ++shard) {
    if (routing_->PrimaryOf(shard) == sender && Follows(*routing_, shard, incarnation())) known.sender_leads = true;
  }
  const Inbox::Received received = leader.inbox.Receive(*parsed, known, grants_.get());
  if (received.newer_epoch > 0) HeartbeatNow();
  AnswerReplica(sender, received.answer);
  if (!received.dispatch) return;
  auto share = std::make_shared<Share>();
  share->bytes = std::move(bytes);
  share->request = *std::move(parsed);
  if (catalog_ != nullptr) TG_CHECK(CheckRecord(share->request.body, *catalog_).ok());
  share->ticket = received.ticket;
  share->split = SplitRecord(share->request.body, {strands_.size(), strand_of_shard_, log2_shards_});
  if (share->ticket.everywhere) share->split.strands = AllStrands();
  AnswerReplica(sender, leader.inbox.Dispatched(share->ticket, share->split.strands, epoch_));
  for (Strand& strand : strands_) {
    if ((share->split.strands >> strand.index & 1) == 0) continue;
    RunOn(&strand, PeerOf(kLeaderPeers, sender), [this, s = &strand, share] { ApplyShare(s, share); });
  }
}

void SimServer::ApplyShare(Strand* strand, const std::shared_ptr<Share>& share) {
  const wire::ReplicaRequest& request = share->request;
  const StrandLog::Position at{request.sender, request.lane, request.index, request.log_start};
  absl::Status status;
  std::vector<ShardId> diverged;
  switch (strand->log.Look(at)) {
    case StrandLog::Verdict::kDuplicate:
      break;
    case StrandLog::Verdict::kBlocked:
      status = absl::UnavailableError("an earlier record comes first");
      break;
    case StrandLog::Verdict::kApply: {
      KeySelection selection;
      selection.all = strands_.size() == 1;
      const size_t first = static_cast<size_t>(strand->index) * share->split.tables;
      for (size_t t = 0; !selection.all && t < share->split.tables; ++t) {
        selection.positions.push_back(share->split.positions[first + t]);
      }
      GroupCall info = Before(*strand);
      status = strand->group->ApplyRecord(request.sender, request.epoch, request.body, selection, &strand->effects);
      strand->log.Done(at, status.ok());
      diverged = strand->effects.diverged;
      if (status.ok()) info.record = &request;
      Deliver(strand, GroupCall::kRecord, nullptr, info);
      break;
    }
  }
  const auto leader = leaders_.find(request.sender);
  if (leader == leaders_.end()) return;
  AnswerReplica(request.sender, leader->second.inbox.Finished(share->ticket, strand->index, status, diverged, epoch_));
}

void SimServer::AnswerReplica(Incarnation sender, const std::optional<ReplicaResponse>& response) {
  if (response) leaders_.at(sender).answer(*response);
}

}  // namespace tidegate::simulation
