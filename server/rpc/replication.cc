#include "server/rpc/replication.h"

#include <algorithm>
#include <bit>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace tidegate {
namespace {

constexpr size_t kSendersMax = 65536;
constexpr size_t kFillStepBytes = 1 << 20;
constexpr size_t kFillWindowBytes = 8 << 20;  // no more rows while so much is not acknowledged
constexpr TimeMs kFillLookMs = 200;
constexpr TimeMs kHandoverStepMs = 20;
constexpr TimeMs kFillSlowlyMs = 100;  // but some of them all the same: pushes alone may keep the window full

}  // namespace

Replication::Replication(ShardEngine* engine) : engine_(engine) {
  ShardEngine::ReplicationHooks hooks;
  hooks.record = [this](uint32_t lane, OutRecord record) { OnRecord(lane, std::move(record)); };
  hooks.in_sync = [this](const ReplicaInSync& replica, Epoch epoch) {
    {
      std::lock_guard lock(mutex_);
      in_sync_[{replica.shard, replica.server}] = epoch;
    }
    options_.report();
  };
  hooks.diverged = [this](ShardId shard) {
    bool fresh;
    {
      std::lock_guard lock(mutex_);
      fresh = refill_.insert(shard).second;
    }
    if (!fresh) return;
    TG_LOG(ERROR) << "this server's copy of shard " << shard << " is not as its primary's; it has to be filled anew";
    options_.report();
  };
  hooks.drained = [this](ShardId shard, Epoch epoch) {
    {
      std::lock_guard lock(mutex_);
      drained_[shard] = epoch;
    }
    options_.report();
  };
  engine_->SetHooks(std::move(hooks));
}

Replication::~Replication() { Stop(); }

void Replication::Configure(const Options& options) {
  options_ = options;
  grants_ = std::make_unique<GivenGrants>(options_.grant_ms);
  ReplicaLinks::Options links;
  links.generation = options_.generation;
  links.self = options_.self;
  links.grant_ms = options_.grant_ms;
  links.message_limit_bytes = options_.message_limit_bytes;
  links.clock = &clock_;
  links.queues = options_.queues;
  ReplicaLinks::Callbacks callbacks;
  callbacks.acknowledged = [this](Incarnation follower, uint32_t lane, uint64_t index, bool by_executor) {
    engine_->Acknowledged(follower, lane, index, by_executor);
  };
  callbacks.granted = [this](Incarnation follower, TimeMs until) { engine_->SetGrant(follower, until); };
  callbacks.newer_epoch = options_.newer_epoch;
  callbacks.unreachable_changed = options_.report;
  callbacks.tick = [this](TimeMs now) { Tick(now); };
  links_ = std::make_unique<ReplicaLinks>(links, std::move(callbacks));
  configured_ = true;
}

void Replication::CloseLinks() {
  if (links_ != nullptr) links_->Stop();
}

void Replication::Stop() {
  engine_->StopMail();
  CloseLinks();
}

// ---- routing ---------------------------------------------------------------

std::vector<ReplicaLinks::Follower> Replication::FollowersIn(const Routing& routing) const {
  std::set<Incarnation> followers;
  for (ShardId shard : engine_->led_shards()) {
    const auto backups = routing.BackupsOf(shard);
    followers.insert(backups.begin(), backups.end());
    followers.insert(routing.JoiningOf(shard));
  }
  std::vector<ReplicaLinks::Follower> out;
  for (const Routing::Server& server : routing.members()) {
    const Incarnation id = server.incarnation;
    if (!followers.contains(id)) continue;
    const uint64_t lanes = engine_->LanesLeading([&](ShardId shard) {
      const auto backups = routing.BackupsOf(shard);
      return routing.JoiningOf(shard) == id || std::find(backups.begin(), backups.end(), id) != backups.end();
    });
    out.push_back({server, lanes});
  }
  return out;
}

absl::Status Replication::SetRouting(const Routing& routing) {
  const auto old = engine_->routing();
  if (old != nullptr && routing.epoch() <= old->epoch()) return absl::OkStatus();
  TimeMs serves_from;
  {
    std::lock_guard lock(grants_mutex_);  // from here on the old table's primaries get no grant
    serves_from = grants_->TakeRouting(old.get(), routing, options_.self);
  }
  if (absl::Status s = engine_->SetRouting(routing, serves_from); !s.ok()) return s;
  auto table = std::make_shared<Table>();
  table->epoch = routing.epoch();
  for (ShardId shard : engine_->shards()) {
    if (routing.PrimaryOf(shard) != options_.self) table->leaders.insert(routing.PrimaryOf(shard));
  }
  {
    std::lock_guard lock(mutex_);
    table_ = std::move(table);
  }
  DropReported(routing);
  links_->SetRouting(routing.epoch(), FollowersIn(routing));
  shards_per_lane_ = static_cast<TimeMs>(engine_->led_shards().size()) / std::popcount(engine_->all_lanes()) + 1;
  has_successors_ = engine_->LanesLeading([&](ShardId shard) { return routing.SuccessorOf(shard) != 0; }) != 0;
  has_joining_ = engine_->LanesLeading([&](ShardId shard) { return routing.JoiningOf(shard) != 0; }) != 0;
  return absl::OkStatus();
}

// What the table says now need not be said any more.
void Replication::DropReported(const Routing& routing) {
  std::lock_guard lock(mutex_);
  std::erase_if(in_sync_, [&](const auto& entry) {
    const auto [shard, server] = entry.first;
    return routing.PrimaryOf(shard) != options_.self || routing.JoiningOf(shard) != server;
  });
  std::erase_if(drained_, [&](const auto& entry) {
    return routing.PrimaryOf(entry.first) != options_.self || routing.SuccessorOf(entry.first) == 0;
  });
  std::erase_if(refill_, [&](ShardId shard) {
    const auto backups = routing.BackupsOf(shard);
    return std::find(backups.begin(), backups.end(), options_.self) == backups.end();
  });
}

void Replication::FillHeartbeat(HeartbeatRequest* request) const {
  if (!configured_) return;
  for (Incarnation server : links_->Unreachable()) request->add_unreachable(server);
  std::lock_guard lock(mutex_);
  for (const auto& [replica, epoch] : in_sync_) {
    InSync* out = request->add_in_sync();
    out->set_shard(replica.first);
    out->set_server(replica.second);
    out->set_epoch(epoch);
  }
  for (ShardId shard : refill_) request->add_refill(shard);
  for (const auto& [shard, epoch] : drained_) {
    Drained* out = request->add_drained();
    out->set_shard(shard);
    out->set_epoch(epoch);
  }
}

// ---- as a primary ----------------------------------------------------------

void Replication::OnRecord(uint32_t lane, OutRecord record) {
  ++records_;
  record_bytes_ += record.bytes;
  if (const auto* fill = std::get_if<wire::FillRecord>(&record.body)) fill_bytes_ += fill->records.size();
  links_->Append(lane, std::move(record));
}

void Replication::Tick(TimeMs now) {
  if (has_joining_) Fill(now);
  if (has_successors_ && now - handover_stepped_at_ >= kHandoverStepMs) {  // it may wait for nothing but time
    handover_stepped_at_ = now;
    engine_->HandoverStep();
  }
  // One shard of each strand at a time, all of them within the interval.
  const TimeMs pause = options_.digest_interval_ms / std::max<TimeMs>(1, shards_per_lane_);
  if (options_.digest_interval_ms > 0 && now - digests_at_ >= pause) {
    if (digests_at_ != 0) engine_->AppendDigests();
    digests_at_ = now;
  }
}

void Replication::Fill(TimeMs now) {
  if (now - fill_looked_at_ >= kFillLookMs) {
    fill_looked_at_ = now;
    const auto routing = engine_->routing();
    fill_lanes_ = engine_->LanesLeading([&](ShardId shard) { return routing->JoiningOf(shard) != 0; });
  }
  const uint64_t lanes = fill_lanes_ & ~fill_pending_;
  if (lanes == 0) return;
  if (links_->Collect().unacknowledged_bytes >= kFillWindowBytes && now - fill_stepped_at_ < kFillSlowlyMs) return;
  fill_stepped_at_ = now;
  if (const uint64_t rate = options_.fill_bytes_per_second; rate > 0) {
    if (fill_paid_to_ > now) return;
    const auto bytes = static_cast<uint64_t>(std::popcount(lanes)) * kFillStepBytes;
    fill_paid_to_ = std::max(fill_paid_to_, now - 100) + static_cast<TimeMs>(bytes * 1000 / rate);
  }
  fill_pending_ |= lanes;
  engine_->FillStep(lanes, kFillStepBytes, [this](uint32_t lane, bool more) {
    const uint64_t bit = uint64_t{1} << lane;
    if (!more) fill_lanes_ &= ~bit;
    fill_pending_ &= ~bit;
  });
}

// ---- as a follower ---------------------------------------------------------

std::shared_ptr<const Replication::Table> Replication::table() const {
  std::lock_guard lock(mutex_);
  return table_;
}

std::shared_ptr<Replication::Sender> Replication::SenderOf(Incarnation incarnation) {
  std::lock_guard lock(mutex_);
  const auto it = senders_.find(incarnation);
  if (it != senders_.end()) return it->second;
  if (senders_.size() == kSendersMax) return nullptr;
  return senders_[incarnation] = std::make_shared<Sender>(incarnation);
}

absl::Status Replication::CheckReceiver(const wire::ReplicaRequest& request) const {
  if (request.generation != options_.generation || request.receiver != options_.self) {
    return absl::FailedPreconditionError(absl::StrCat(
        "meant for server ", request.receiver, " of generation ", request.generation, ", but this process is server ",
        options_.self, " of generation ", options_.generation));
  }
  if (request.sender == 0 || request.sender == options_.self) {
    return absl::InvalidArgumentError("a message of replication without another server as its sender");
  }
  return absl::OkStatus();
}

void Replication::Handle(const std::shared_ptr<ReplicaPeer>& peer, OwnedBytes message) {
  if (!configured_) return peer->End(absl::UnavailableError("this server has not joined a job yet"));
  auto request = wire::ParseReplicaRequest(message.bytes);
  if (!request.ok()) return peer->End(request.status());
  if (absl::Status s = CheckReceiver(*request); !s.ok()) return peer->End(s);
  auto record = std::make_shared<ShardEngine::IncomingRecord>();
  if (request->index != 0) {
    const absl::Status checked = engine_->CheckIncoming(request->body);
    record->checked = checked.ok();
    if (!checked.ok() && !absl::IsUnavailable(checked)) return peer->End(checked);
  }
  const std::shared_ptr<Sender> sender = SenderOf(request->sender);
  if (sender == nullptr) return peer->End(absl::ResourceExhaustedError("too many servers"));
  record->request = *std::move(request);
  record->owner = std::move(message.owner);
  Receive(sender, std::move(record), peer);
}

void Replication::Receive(const std::shared_ptr<Sender>& sender, std::shared_ptr<ShardEngine::IncomingRecord> record,
                          const std::shared_ptr<ReplicaPeer>& peer) {
  const auto known = table();
  const Inbox::Now now = {known->epoch, known->leaders.contains(sender->inbox.sender()), clock_.NowMs()};
  Inbox::Received received;
  std::optional<ReplicaResponse> done;
  uint64_t lanes = 0;
  {
    std::lock_guard lock(sender->mutex);
    if (record->request.index != 0) sender->peer = peer;
    {
      std::lock_guard grants_lock(grants_mutex_);
      received = sender->inbox.Receive(record->request, now, grants_.get());
    }
    if (received.dispatch) {
      ++applied_records_;
      record->split = engine_->Split(record->request.body);
      const uint64_t all = engine_->all_lanes();
      lanes = received.ticket.everywhere ? all : record->split.strands;
      done = sender->inbox.Dispatched(received.ticket, lanes, known->epoch);
      record->done = [this, sender, ticket = received.ticket](int strand, const absl::Status& status,
                                                              std::span<const ShardId> diverged) {
        std::optional<ReplicaResponse> answer;
        std::shared_ptr<ReplicaPeer> to;
        const Epoch epoch = table()->epoch;
        {
          std::lock_guard answer_lock(sender->mutex);
          answer = sender->inbox.Finished(ticket, strand, status, diverged, epoch);
          to = sender->peer;
        }
        if (answer) to->Answer(*std::move(answer));
      };
      engine_->Apply(record, lanes);  // under the lock: in order
    }
  }
  if (lanes != 0) engine_->Proceed(lanes);
  if (received.newer_epoch != 0) options_.newer_epoch(received.newer_epoch);
  if (received.answer) {
    if (record->request.index == 0 && !received.answer->grant()) ++refused_grants_;
    peer->Answer(*std::move(received.answer));
  }
  if (done) peer->Answer(*std::move(done));
}

Replication::Statistics Replication::Collect() const {
  Statistics out;
  if (configured_) out.links = links_->Collect();
  out.records = records_;
  out.record_bytes = record_bytes_;
  out.fill_bytes = fill_bytes_;
  out.applied_records = applied_records_;
  out.refused_grants = refused_grants_;
  return out;
}

}  // namespace tidegate
