#include "worker/client/rpc/cluster_client.h"

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/rpc/byte_buffer.h"
#include "common/rpc/channel.h"
#include "common/rpc/stream_link.h"

namespace tidegate {
namespace {

constexpr TimeMs kPollMsMax = 200;  // how late a timer set by another thread may be seen
constexpr TimeMs kComplainEveryMs = 5'000;
constexpr TimeMs kComplainAfterMs = 1'000;  // a server that ends with its job is no trouble
constexpr size_t kMessageSlackBytes = 1 << 20;

}  // namespace

class ClusterClient::Impl {
 public:
  using Done = std::function<void(Tracker::Completed)>;

  explicit Impl(Options options)
      : want_routing_(std::move(options.want_routing)),
        unreachable_after_ms_(options.unreachable_after_ms),
        unreachable_(std::move(options.unreachable)),
        lost_server_(std::move(options.lost_server)),
        message_limit_bytes_(options.tracker.message_limit_bytes),
        tracker_(options.tracker) {
    thread_ = std::thread([this] { Loop(); });
  }
  ~Impl() { Stop(); }

  // Makes a call or gives an input to the tracker, and carries out what follows.
  template <typename Input>
  void Give(Input input) {
    Work work;
    bool wake = false;
    {
      std::lock_guard lock(mutex_);
      input(&tracker_);
      work = Collect();
      // Callbacks belong to the client's thread, as long as there is one.
      if (!ended_ && (!work.done.empty() || work.want_routing)) {
        for (auto& d : std::exchange(work.done, {})) posted_.push_back(std::move(d));
        posted_want_routing_ |= std::exchange(work.want_routing, false);
        wake = !std::exchange(wake_armed_, true);
      }
    }
    if (wake) wake_.Set(&queue_, std::chrono::system_clock::now(), nullptr);
    Carry(work);
  }

  template <typename Start>
  void Begin(Done done, Start start) {
    Give([&](Tracker* tracker) { callbacks_[start(tracker)] = std::move(done); });
  }

  TimeMs Now() const { return clock_.NowMs(); }

  void SetRouting(std::shared_ptr<const Routing> routing) {
    std::vector<std::shared_ptr<StreamLink>> dropped;
    {
      std::lock_guard lock(mutex_);
      if (stopping_ || (routing_epoch_ != 0 && routing->epoch() <= routing_epoch_)) return;
      routing_epoch_ = routing->epoch();
      std::map<Incarnation, Peer> peers;
      for (const Routing::Server& s : routing->members()) {
        auto known = peers_.extract(s.incarnation);
        if (known.empty()) {
          peers[s.incarnation].address = s.address;
        } else {
          peers.insert(std::move(known));
        }
      }
      for (auto& [server, peer] : peers_) {
        if (peer.link != nullptr) dropped.push_back(std::move(peer.link));
      }
      peers_ = std::move(peers);
    }
    for (auto& link : dropped) link->Close();
    Give([&](Tracker* tracker) { tracker->SetRouting(Now(), routing); });
  }

  void Stop() {
    std::vector<std::shared_ptr<StreamLink>> links;
    {
      std::lock_guard lock(mutex_);
      if (!stopping_) {
        stopping_ = true;
        for (auto& [server, peer] : peers_) {
          if (peer.link != nullptr) links.push_back(peer.link);
        }
      }
    }
    Give([&](Tracker* tracker) { tracker->Stop(absl::CancelledError("the client was stopped")); });
    for (auto& link : links) link->Close();
    std::lock_guard lock(join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

  absl::Status health() const {
    std::lock_guard lock(mutex_);
    return tracker_.health();
  }
  Stats stats() const {
    std::lock_guard lock(mutex_);
    Stats out = stats_;
    out.tracker = tracker_.stats();
    return out;
  }
  std::vector<Incarnation> UnreachableServers() const {
    std::vector<Incarnation> out;
    std::lock_guard lock(mutex_);
    for (const auto& [server, peer] : peers_) {
      if (peer.unreachable) out.push_back(server);
    }
    return out;
  }

 private:
  struct Peer {
    std::string address;
    std::shared_ptr<grpc::Channel> channel;
    std::shared_ptr<StreamLink> link;
    uint64_t link_id = 0;
    TimeMs complained_at = -kComplainEveryMs;
    TimeMs broken_at = -kComplainEveryMs;        // newest, and first of those that followed each other
    TimeMs first_broken_at = -kComplainEveryMs;
    TimeMs first_sent_at = -1;
    bool reached = false;      // has answered
    bool link_answered = false;  // on its newest connection
    bool unreachable = false;
    std::string last_error;    // of its newest connection
  };
  struct Finished {
    Done done;
    Tracker::Completed result;
  };
  struct Work {
    std::vector<Tracker::Send> sends;
    std::vector<Finished> done;
    bool want_routing = false;
  };

  // REQUIRES: mutex_ held.
  Work Collect() {
    Tracker::Effects effects = tracker_.TakeEffects();
    Work work;
    work.sends = std::move(effects.sends);
    work.want_routing = effects.want_routing;
    for (Tracker::Completed& c : effects.completed) {
      auto found = callbacks_.find(c.call);
      if (found == callbacks_.end()) continue;
      work.done.push_back({std::move(found->second), std::move(c)});
      callbacks_.erase(found);
    }
    return work;
  }

  void Transmit(Work& work) {
    for (Tracker::Send& send : work.sends) {
      const wire::Pieces pieces = wire::EncodeStreamRequest(send.number, send.body);
      grpc::ByteBuffer buffer = ToByteBuffer(pieces, send.owner);
      const size_t bytes = buffer.Length();
      while (!SendTo(send.server, &buffer)) {
      }
      std::lock_guard lock(mutex_);
      stats_.bytes_sent += bytes;
    }
  }

  // False: the connection had broken and another try is worth it.
  bool SendTo(Incarnation server, grpc::ByteBuffer* buffer) {
    std::shared_ptr<StreamLink> link;
    bool start = false;
    {
      std::lock_guard lock(mutex_);
      auto found = peers_.find(server);
      if (stopping_ || found == peers_.end()) return true;  // the tracker knows, or will
      Peer& peer = found->second;
      if (peer.first_sent_at < 0) peer.first_sent_at = Now();
      if (peer.channel == nullptr) {
        peer.channel = MakeDataChannel(peer.address,
                                       static_cast<int>(message_limit_bytes_ + kMessageSlackBytes));
      }
      if (peer.link == nullptr) {
        peer.link_id = ++stats_.connections;
        peer.link = MakeLink(server, peer.link_id, peer.channel);
        peer.link_answered = false;
        start = true;
      }
      link = peer.link;
    }
    if (start) {
      const bool sent = link->Send(*buffer);  // before the start: it waits in the link
      link->Start();
      return sent;
    }
    if (link->Send(*buffer)) return true;
    std::lock_guard lock(mutex_);
    auto found = peers_.find(server);
    if (found != peers_.end() && found->second.link == link) found->second.link = nullptr;
    return false;
  }

  // REQUIRES: mutex_ held.
  std::shared_ptr<StreamLink> MakeLink(Incarnation server, uint64_t id,
                                       const std::shared_ptr<grpc::Channel>& channel) {
    ++links_;
    StreamLink::Callbacks callbacks;
    callbacks.message = [this, server](grpc::ByteBuffer message) {
      OnMessage(server, std::move(message));
    };
    callbacks.broken = [this, server, id](const grpc::Status& status) {
      OnBroken(server, id, status);
    };
    return std::make_shared<StreamLink>(channel, "/tidegate.ShardService/Stream", &queue_,
                                        std::move(callbacks));
  }

  // ---- the client's thread ----

  void Loop() {
    void* tag;
    bool ok;
    for (;;) {
      const TimeMs wait = RunTimers();
      const auto deadline = std::chrono::system_clock::now() + std::chrono::milliseconds(wait);
      const auto next = queue_.AsyncNext(&tag, &ok, deadline);
      if (next == grpc::CompletionQueue::SHUTDOWN) return;
      if (next == grpc::CompletionQueue::GOT_EVENT) {
        if (tag == nullptr) {
          RunPosted();
        } else {
          static_cast<CompletionTag*>(tag)->Proceed(ok);
        }
      }
      bool end;
      {
        std::lock_guard lock(mutex_);
        end = !ended_ && stopping_ && links_ == 0 && !wake_armed_ && !tracker_.health().ok();
        ended_ |= end;
      }
      if (end) queue_.Shutdown();
    }
  }

  // What to say of a server that never answered, once. REQUIRES: mutex_ held.
  std::string FindUnreachable(TimeMs now) {
    if (stopping_ || told_unreachable_ || unreachable_after_ms_ <= 0 || !unreachable_) return "";
    for (const auto& [server, peer] : peers_) {
      if (peer.reached || peer.first_sent_at < 0 || now - peer.first_sent_at < unreachable_after_ms_) continue;
      told_unreachable_ = true;
      return absl::StrCat("server ", server, " cannot be reached at ", peer.address, " (tried for ",
                          (now - peer.first_sent_at) / 1000, " s, train.stall_timeout_s",
                          peer.last_error.empty() ? "" : "; last: ", peer.last_error,
                          "): it is the address that the server gave by --advertise, or else by --listen");
    }
    return "";
  }

  // Returns how long to wait at most.
  TimeMs RunTimers() {
    const TimeMs now = Now();
    Work work;
    TimeMs next;
    std::string unreachable;
    {
      std::lock_guard lock(mutex_);
      unreachable = FindUnreachable(now);
      if (tracker_.NextTime() <= now) {
        tracker_.OnTime(now);
        work = Collect();
      }
      next = tracker_.NextTime();
    }
    Carry(work);
    if (!unreachable.empty()) unreachable_(unreachable);
    return std::clamp<TimeMs>(next > now ? next - now : 0, 0, kPollMsMax);
  }

  void RunPosted() {
    std::vector<Finished> done;
    bool want_routing;
    {
      std::lock_guard lock(mutex_);
      wake_armed_ = false;
      done = std::exchange(posted_, {});
      want_routing = std::exchange(posted_want_routing_, false);
    }
    CallBack(done, want_routing);
  }

  void Carry(Work& work) {
    Transmit(work);
    CallBack(work.done, work.want_routing);
  }

  void CallBack(std::vector<Finished>& done, bool want_routing) {
    for (Finished& f : done) {
      if (f.done) f.done(std::move(f.result));
    }
    if (!want_routing || !want_routing_) return;
    Epoch epoch;
    {
      std::lock_guard lock(mutex_);
      epoch = routing_epoch_;
    }
    want_routing_(epoch);
  }

  void OnMessage(Incarnation server, grpc::ByteBuffer message) {
    const OwnedFragments owned = ToFragments(message);
    auto reply = wire::ParseFragmentedStreamResponse(owned.bytes);
    if (!reply.ok()) {
      TG_LOG(ERROR) << "server " << server << " sent what is no response: "
                    << reply.status().message();
      std::shared_ptr<StreamLink> link;
      {
        std::lock_guard lock(mutex_);
        auto found = peers_.find(server);
        if (found != peers_.end()) link = found->second.link;
      }
      if (link != nullptr) link->Close();
      return;
    }
    Work work;
    {
      std::lock_guard lock(mutex_);
      stats_.bytes_received += owned.bytes.size();
      if (auto found = peers_.find(server); found != peers_.end()) {
        found->second.reached = found->second.link_answered = true;
        found->second.unreachable = false;
      }
      tracker_.OnReply(Now(), reply->call, reply->body);
      work = Collect();
    }
    Carry(work);
  }

  void OnBroken(Incarnation server, uint64_t id, const grpc::Status& status) {
    Work work;
    std::string complaint;
    bool lost = false;
    {
      std::lock_guard lock(mutex_);
      --links_;
      auto found = peers_.find(server);
      if (found != peers_.end()) {
        Peer& peer = found->second;
        peer.last_error = status.error_message();
        if (peer.link_id == id) {
          peer.link = nullptr;
          const bool refused = !peer.link_answered && status.error_code() == grpc::StatusCode::UNAVAILABLE;
          lost = refused && !std::exchange(peer.unreachable, refused) && !stopping_;
        }
        if (Now() - peer.broken_at >= kComplainEveryMs) peer.first_broken_at = Now();
        peer.broken_at = Now();
        if (!stopping_ && Now() - peer.first_broken_at >= kComplainAfterMs &&
            Now() - peer.complained_at >= kComplainEveryMs) {
          peer.complained_at = Now();
          complaint = "connection to server " + std::to_string(server) + " at " + peer.address +
                      " breaks, trying again: " + status.error_message();
        }
      }
      tracker_.OnDisconnected(Now(), server);
      work = Collect();
    }
    if (!complaint.empty()) TG_LOG(WARNING) << complaint;
    if (lost && lost_server_) lost_server_();
    Carry(work);
  }

  const std::function<void(Epoch)> want_routing_;
  const TimeMs unreachable_after_ms_;
  const std::function<void(const std::string&)> unreachable_;
  const std::function<void()> lost_server_;
  const size_t message_limit_bytes_;
  const RealClock clock_;
  grpc::CompletionQueue queue_;
  grpc::Alarm wake_;

  mutable std::mutex mutex_;
  Tracker tracker_;
  std::map<Tracker::CallId, Done> callbacks_;
  std::map<Incarnation, Peer> peers_;
  Epoch routing_epoch_ = 0;
  Stats stats_;
  size_t links_ = 0;  // not yet broken
  bool stopping_ = false;
  bool told_unreachable_ = false;
  bool ended_ = false;  // the queue is shut down, its thread ends
  bool wake_armed_ = false;
  std::vector<Finished> posted_;
  bool posted_want_routing_ = false;
  std::mutex join_mutex_;
  std::thread thread_;
};

ClusterClient::ClusterClient(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
ClusterClient::~ClusterClient() = default;

void ClusterClient::SetRouting(std::shared_ptr<const Routing> routing) {
  impl_->SetRouting(std::move(routing));
}

void ClusterClient::Pull(Clock clock, Clock bound, std::span<const TablePull> tables,
                         PullDone done) {
  impl_->Begin(
      [done = std::move(done)](Tracker::Completed c) { done({std::move(c.status), c.clock}); },
      [&](Tracker* t) { return t->Pull(impl_->Now(), clock, bound, tables); });
}

void ClusterClient::PullForEvaluation(std::span<const TablePull> tables, PullDone done) {
  impl_->Begin(
      [done = std::move(done)](Tracker::Completed c) { done({std::move(c.status), c.clock}); },
      [&](Tracker* t) { return t->PullForEvaluation(impl_->Now(), tables); });
}

void ClusterClient::Push(Clock clock, double weight, std::span<const TablePush> tables,
                         PushDone done) {
  impl_->Begin([done = std::move(done)](Tracker::Completed c) { done({std::move(c.status), c.dropped, c.clock}); },
               [&](Tracker* t) { return t->Push(impl_->Now(), clock, weight, tables); });
}

void ClusterClient::EndClock(Clock clock) {
  impl_->Give([&](Tracker* t) { t->EndClock(impl_->Now(), clock); });
}

void ClusterClient::Announce(AnnounceDone done) {
  impl_->Begin(
      [done = std::move(done)](Tracker::Completed c) {
        if (c.status.ok()) {
          done(c.clock);
        } else {
          done(std::move(c.status));
        }
      },
      [&](Tracker* t) { return t->Announce(impl_->Now()); });
}

void ClusterClient::Park(std::function<void(absl::Status)> done) {
  impl_->Begin([done = std::move(done)](Tracker::Completed c) { done(std::move(c.status)); },
               [&](Tracker* t) { return t->Park(impl_->Now()); });
}

void ClusterClient::Stop() { impl_->Stop(); }
absl::Status ClusterClient::health() const { return impl_->health(); }
ClusterClient::Stats ClusterClient::stats() const { return impl_->stats(); }
std::vector<Incarnation> ClusterClient::UnreachableServers() const { return impl_->UnreachableServers(); }

}  // namespace tidegate
