#include "server/rpc/replica_links.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "common/logging.h"
#include "common/rpc/byte_buffer.h"
#include "common/rpc/channel.h"
#include "common/rpc/completion_tag.h"
#include "common/rpc/stream_link.h"
#include "common/wire/replica_wire.h"
#include "server/replication/outbox.h"

namespace tidegate {
namespace {

constexpr TimeMs kTickMs = 10;
constexpr TimeMs kRetryMinMs = 20, kRetryMaxMs = 500;
constexpr TimeMs kSilentGrants = 3;  // so long without an answer: unreachable
// Beyond the records' own bytes: header and tags.
constexpr int kMessageRoomBytes = 1 << 20;

}  // namespace

class ReplicaLinks::Impl {
 public:
  Impl(const Options& options, Callbacks callbacks) : options_(options), callbacks_(std::move(callbacks)) {}
  ~Impl() { Stop(); }

  void SetRouting(Epoch epoch, const std::vector<Follower>& followers);
  void Append(uint32_t lane, OutRecord record);
  std::vector<Incarnation> Unreachable() const;
  Statistics Collect() const;
  void Stop();

 private:
  enum Kind { kLog, kKeepAlive };
  struct Link {
    explicit Link(const Outbox::Options& options) : box(options) {}
    Incarnation follower() const { return box.options().follower; }
    bool open() const { return streams[kLog] != nullptr; }
    std::mutex mutex;  // held while a message is given to gRPC: the log's order
    // --- under mutex ---
    Outbox box;
    std::string address;
    std::shared_ptr<grpc::Channel> channels[2];  // by Kind
    std::shared_ptr<StreamLink> streams[2];      // both or none
    bool removed = false;
    bool heard = false;       // an answer came on these streams
    TimeMs heard_ms = 0;      // ... last; else when they were opened
    TimeMs log_heard_ms = 0;  // of the log's; or when the first record was there that is not acknowledged
    TimeMs retry_at = 0;
    TimeMs retry_ms = kRetryMinMs;
    TimeMs granted_told = 0;
    // --- for others ---
    std::atomic<bool> unreachable{false};
    std::atomic<size_t> bytes{0}, records{0};
  };
  using LinkPtr = std::shared_ptr<Link>;

  LinkPtr LinkOf(Incarnation follower);
  std::vector<LinkPtr> Links() const;
  TimeMs Now() const { return options_.clock->NowMs(); }
  void EnsureThread();
  void Loop();
  void LookAfter(const LinkPtr& link);
  // These with the link's mutex held.
  void Open(const LinkPtr& link);
  std::shared_ptr<StreamLink> MakeStream(const LinkPtr& link, Kind kind);
  void Pump(Link* link);
  void CloseStreams(Link* link);
  void Remove(Link* link);
  // True: from now on.
  static bool BecomesUnreachable(Link* link) { return !link->unreachable.exchange(true); }
  // These without.
  void OnMessage(Link* link, Kind kind, const grpc::ByteBuffer& message);
  void OnBroken(Link* link, const StreamLink* stream, const grpc::Status& status);

  const Options options_;
  const Callbacks callbacks_;
  grpc::CompletionQueue queue_;
  std::atomic<int> open_streams_{0};
  std::atomic<uint64_t> streams_{0};
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::map<Incarnation, LinkPtr> links_;
  std::thread thread_;
};

ReplicaLinks::Impl::LinkPtr ReplicaLinks::Impl::LinkOf(Incarnation follower) {
  std::lock_guard lock(mutex_);
  LinkPtr& link = links_[follower];
  if (link == nullptr) {
    Outbox::Options box;
    box.generation = options_.generation;
    box.self = options_.self;
    box.follower = follower;
    box.grant_ms = options_.grant_ms;
    link = std::make_shared<Link>(box);
  }
  return link;
}

std::vector<ReplicaLinks::Impl::LinkPtr> ReplicaLinks::Impl::Links() const {
  std::lock_guard lock(mutex_);
  std::vector<LinkPtr> out;
  for (const auto& [follower, link] : links_) out.push_back(link);
  return out;
}

void ReplicaLinks::Impl::EnsureThread() {
  std::lock_guard lock(mutex_);
  if (thread_.joinable() || stopping_) return;
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "replica-links");
    Loop();
  });
}

void ReplicaLinks::Impl::SetRouting(Epoch epoch, const std::vector<Follower>& followers) {
  if (stopping_) return;
  std::vector<LinkPtr> gone;
  {
    std::lock_guard lock(mutex_);
    for (auto it = links_.begin(); it != links_.end();) {
      const bool stays = std::any_of(followers.begin(), followers.end(), [&](const Follower& f) { return f.server.incarnation == it->first; });
      if (!stays) gone.push_back(it->second);
      it = stays ? std::next(it) : links_.erase(it);
    }
  }
  for (const LinkPtr& link : gone) {
    std::lock_guard lock(link->mutex);
    Remove(link.get());
  }
  for (const Follower& follower : followers) {
    const LinkPtr link = LinkOf(follower.server.incarnation);
    std::lock_guard lock(link->mutex);
    if (link->address != follower.server.address) link->channels[kLog] = link->channels[kKeepAlive] = nullptr;
    link->address = follower.server.address;
    link->box.SetRouting(epoch, follower.lanes);
    if (!link->open() && link->retry_at == 0) Open(link);
    Pump(link.get());
  }
  if (!followers.empty()) EnsureThread();
}

void ReplicaLinks::Impl::Append(uint32_t lane, OutRecord record) {
  if (stopping_) return;
  const LinkPtr link = LinkOf(record.follower);
  std::lock_guard lock(link->mutex);
  if (link->removed) return;
  if (link->box.unacknowledged_records() == 0) link->log_heard_ms = Now();
  link->box.Append(lane, std::move(record));
  Pump(link.get());
}

std::shared_ptr<StreamLink> ReplicaLinks::Impl::MakeStream(const LinkPtr& link, Kind kind) {
  std::shared_ptr<grpc::Channel>& channel = link->channels[kind];
  if (channel == nullptr) channel = MakeDataChannel(link->address, options_.message_limit_bytes + kMessageRoomBytes);
  // The stream names itself in its callbacks, so that what an old one says late is not taken for a new one's.
  auto self = std::make_shared<const StreamLink*>(nullptr);
  StreamLink::Callbacks callbacks;
  callbacks.message = [this, link, kind](const grpc::ByteBuffer& message) { OnMessage(link.get(), kind, message); };
  callbacks.broken = [this, link, self](const grpc::Status& status) {
    OnBroken(link.get(), *self, status);
    --open_streams_;
  };
  ++open_streams_;
  ++streams_;
  const bool by_executor = kind == kLog && !options_.queues.empty();
  grpc::CompletionQueue* const queue = by_executor ? options_.queues[link->follower() % options_.queues.size()] : &queue_;
  const char* const method = kind == kLog ? "/tidegate.ReplicaService/Replicate" : "/tidegate.ReplicaService/Grant";
  auto stream = std::make_shared<StreamLink>(link->channels[kind], method, queue, std::move(callbacks));
  *self = stream.get();
  return stream;
}

void ReplicaLinks::Impl::Open(const LinkPtr& link) {
  if (stopping_ || link->removed || link->address.empty()) return;
  for (const Kind kind : {kLog, kKeepAlive}) link->streams[kind] = MakeStream(link, kind);
  link->heard = false;
  link->heard_ms = link->log_heard_ms = Now();
  for (const auto& stream : link->streams) stream->Start();
  link->box.Connected(Now());
}

void ReplicaLinks::Impl::Pump(Link* link) {
  while (link->open()) {
    auto message = link->box.Next(Now());
    if (!message) break;
    const Kind kind = message->request.index == 0 ? kKeepAlive : kLog;
    link->streams[kind]->Send(ToByteBuffer(wire::EncodeReplicaRequest(message->request), message->owner));
  }
  link->bytes = link->box.unacknowledged_bytes();
  link->records = link->box.unacknowledged_records();
}

void ReplicaLinks::Impl::CloseStreams(Link* link) {
  for (auto& stream : link->streams) {
    if (stream != nullptr) stream->Close();
    stream = nullptr;
  }
  link->box.Disconnected();
}

void ReplicaLinks::Impl::Remove(Link* link) {
  link->removed = true;
  CloseStreams(link);
}

void ReplicaLinks::Impl::OnMessage(Link* link, Kind kind, const grpc::ByteBuffer& message) {
  const OwnedBytes bytes = ToContiguous(message);
  ReplicaResponse response;
  if (!response.ParseFromArray(bytes.bytes.data(), static_cast<int>(bytes.bytes.size()))) return;
  Outbox::Outcome outcome;
  TimeMs granted_until = 0;
  {
    std::lock_guard lock(link->mutex);
    if (link->removed) return;
    link->heard = true;
    link->heard_ms = Now();
    if (kind == kLog) link->log_heard_ms = link->heard_ms;
    link->retry_ms = kRetryMinMs;
    link->unreachable = false;
    outcome = link->box.Take(response, Now());
    // Not each of the many: enough that it never looks as if it ran out.
    if (outcome.granted_until > link->granted_told + options_.grant_ms / 8) {
      granted_until = link->granted_told = outcome.granted_until;
    }
    Pump(link);
  }
  const bool by_executor = kind == kLog && !options_.queues.empty();
  for (const auto& ack : outcome.acknowledged) callbacks_.acknowledged(link->follower(), ack.lane, ack.index, by_executor);
  if (granted_until != 0) callbacks_.granted(link->follower(), granted_until);
  if (outcome.newer_epoch != 0) callbacks_.newer_epoch(outcome.newer_epoch);
}

void ReplicaLinks::Impl::OnBroken(Link* link, const StreamLink* stream, const grpc::Status& status) {
  bool tell = false;
  {
    std::lock_guard lock(link->mutex);
    const bool current = stream == link->streams[kLog].get() || stream == link->streams[kKeepAlive].get();
    if (link->removed || !current) return;
    if (link->heard || !link->unreachable) {
      TG_LOG(INFO) << "the replication stream to server " << link->follower() << " at " << link->address
                   << " broke, opening it again: " << status.error_message();
    }
    if (!link->heard) tell = BecomesUnreachable(link);
    CloseStreams(link);
    link->retry_at = Now() + link->retry_ms;
    link->retry_ms = std::min(link->retry_ms * 2, kRetryMaxMs);
  }
  if (tell) callbacks_.unreachable_changed();
}

// Keep-alives are answered whatever the follower's strands do: who is silent is stopped or cut off. The connections
// are given up too, which would find out late that they can be used again.
void ReplicaLinks::Impl::LookAfter(const LinkPtr& link) {
  bool tell = false;
  {
    std::lock_guard lock(link->mutex);
    if (link->open() && Now() - link->heard_ms > kSilentGrants * options_.grant_ms) {
      tell = BecomesUnreachable(link.get());
      if (tell) TG_LOG(WARNING) << "server " << link->follower() << " at " << link->address << " does not answer";
      CloseStreams(link.get());
      link->channels[kLog] = link->channels[kKeepAlive] = nullptr;
      link->retry_at = Now() + kRetryMinMs;
    }
    // The follower is there, but its strands are not heard: they may be at work for long, or the connection is lost.
    if (link->open() && link->box.unacknowledged_records() > 0 && Now() - link->log_heard_ms > options_.log_silent_ms) {
      CloseStreams(link.get());
      link->channels[kLog] = nullptr;
      link->retry_at = Now() + kRetryMinMs;
    }
    if (!link->open() && !link->removed && Now() >= link->retry_at) {
      link->retry_at = 0;
      Open(link);
    }
    Pump(link.get());
  }
  if (tell) callbacks_.unreachable_changed();
}

void ReplicaLinks::Impl::Loop() {
  TimeMs next_tick = Now();
  bool shut = false;
  for (;;) {
    void* tag;
    bool ok;
    const auto deadline = std::chrono::system_clock::now() + std::chrono::milliseconds(kTickMs);
    const auto next = queue_.AsyncNext(&tag, &ok, deadline);
    if (next == grpc::CompletionQueue::SHUTDOWN) return;
    if (next == grpc::CompletionQueue::GOT_EVENT) static_cast<CompletionTag*>(tag)->Proceed(ok);
    if (stopping_) {
      if (open_streams_ == 0 && !std::exchange(shut, true)) queue_.Shutdown();
      continue;
    }
    if (Now() < next_tick) continue;
    next_tick = Now() + kTickMs;
    for (const LinkPtr& link : Links()) LookAfter(link);
    callbacks_.tick(Now());
  }
}

std::vector<Incarnation> ReplicaLinks::Impl::Unreachable() const {
  std::vector<Incarnation> out;
  for (const LinkPtr& link : Links()) {
    if (link->unreachable) out.push_back(link->follower());
  }
  return out;
}

ReplicaLinks::Statistics ReplicaLinks::Impl::Collect() const {
  Statistics out;
  out.streams = streams_;
  for (const LinkPtr& link : Links()) {
    ++out.followers;
    out.unacknowledged_bytes += link->bytes;
    out.unacknowledged_records += link->records;
  }
  return out;
}

void ReplicaLinks::Impl::Stop() {
  if (stopping_.exchange(true)) return;
  for (const LinkPtr& link : Links()) {
    std::lock_guard lock(link->mutex);
    Remove(link.get());
  }
  if (thread_.joinable()) thread_.join();
  std::lock_guard lock(mutex_);
  links_.clear();
}

ReplicaLinks::ReplicaLinks(const Options& options, Callbacks callbacks)
    : impl_(std::make_unique<Impl>(options, std::move(callbacks))) {}
ReplicaLinks::~ReplicaLinks() = default;
void ReplicaLinks::SetRouting(Epoch epoch, const std::vector<Follower>& followers) { impl_->SetRouting(epoch, followers); }
void ReplicaLinks::Append(uint32_t lane, OutRecord record) { impl_->Append(lane, std::move(record)); }
std::vector<Incarnation> ReplicaLinks::Unreachable() const { return impl_->Unreachable(); }
ReplicaLinks::Statistics ReplicaLinks::Collect() const { return impl_->Collect(); }
void ReplicaLinks::Stop() { impl_->Stop(); }

}  // namespace tidegate
