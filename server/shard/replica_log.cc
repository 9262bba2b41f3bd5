#include "server/shard/replica_log.h"

#include <algorithm>

namespace tidegate {

const ReplicaLog::Follower* ReplicaLog::Find(Incarnation server) const {
  const auto it = std::find_if(followers_.begin(), followers_.end(),
                               [server](const Follower& f) { return f.server == server; });
  return it == followers_.end() ? nullptr : &*it;
}

void ReplicaLog::Resize(size_t shards) {
  shards_ = shards;
  for (Follower& follower : followers_) follower.follows.resize(shards, Follows::kNot);
}

void ReplicaLog::Set(Incarnation server, uint32_t local, Follows follows) {
  auto it = std::find_if(followers_.begin(), followers_.end(),
                         [server](const Follower& f) { return f.server == server; });
  if (it == followers_.end()) {
    if (follows == Follows::kNot) return;
    it = followers_.insert(followers_.end(), Follower());
    it->server = server;
    it->follows.resize(shards_, Follows::kNot);
  }
  it->follows[local] = follows;
}

Follows ReplicaLog::Get(Incarnation server, uint32_t local) const {
  const Follower* follower = Find(server);
  return follower == nullptr ? Follows::kNot : follower->follows[local];
}

void ReplicaLog::Settle(ShardEffects* effects) {
  active_ = false;
  for (Follower& follower : followers_) {
    follower.active = std::any_of(follower.follows.begin(), follower.follows.end(),
                                  [](Follows f) { return f != Follows::kNot; });
    active_ = active_ || follower.active;
    if (follower.active) continue;
    follower.unacked.clear();
    follower.unacked_bytes = 0;
    follower.acked = follower.last;  // where it follows again its log begins with the next
  }
  Release([this](const Held& held, const Wait& wait) { return !MustHave(held, followers_[wait.follower]); },
          effects);
}

bool ReplicaLog::MustHave(const Held& held, const Follower& follower) const {
  return std::any_of(held.touched.begin(), held.touched.end(),
                     [&](uint32_t local) { return MustHave(follower.follows[local]); });
}

template <typename Over>
void ReplicaLog::Release(const Over& over, ShardEffects* effects) {
  const auto end = std::remove_if(held_.begin(), held_.end(), [&](Held& held) {
    const auto keep = std::remove_if(held.waits.begin(), held.waits.end(),
                                     [&](const Wait& wait) { return over(held, wait); });
    held.waits.erase(keep, held.waits.end());
    if (!held.waits.empty()) return false;
    effects->pushes.push_back(std::move(held.done));
    return true;
  });
  held_.erase(end, held_.end());
}

void ReplicaLog::FailHeld(std::span<const uint8_t> left, const absl::Status& status, ShardEffects* effects) {
  const auto end = std::remove_if(held_.begin(), held_.end(), [&](Held& held) {
    const bool touched = std::any_of(held.touched.begin(), held.touched.end(),
                                     [&](uint32_t local) { return local < left.size() && left[local] != 0; });
    if (!touched) return false;
    PushDone done;
    done.token = held.done.token;
    done.status = status;
    effects->pushes.push_back(std::move(done));
    return true;
  });
  held_.erase(end, held_.end());
}

uint64_t ReplicaLog::Append(Follower* follower, wire::Record body, std::shared_ptr<const void> owner,
                            size_t bytes, ShardEffects* effects) {
  bytes += sizeof(OutRecord);
  const uint64_t index = ++follower->last;
  follower->unacked.emplace_back(index, bytes);
  follower->unacked_bytes += bytes;
  effects->records.push_back({follower->server, index, std::move(body), std::move(owner), bytes, epoch_});
  return index;
}

bool ReplicaLog::WindowFull(std::span<const uint8_t> touched) const {
  return std::any_of(followers_.begin(), followers_.end(), [&](const Follower& follower) {
    const bool full = follower.unacked_bytes > window_bytes_ || (window_records_ > 0 && follower.unacked.size() >= window_records_);
    if (!follower.active || !full) return false;
    for (size_t i = 0; i < touched.size(); ++i) {
      if (touched[i] != 0 && follower.follows[i] != Follows::kNot) return true;
    }
    return false;
  });
}

void ReplicaLog::Acknowledged(Incarnation server, uint64_t index, ShardEffects* effects) {
  for (size_t i = 0; i < followers_.size(); ++i) {
    Follower& follower = followers_[i];
    if (follower.server != server) continue;
    if (index <= follower.acked || index > follower.last) return;
    follower.acked = index;
    while (!follower.unacked.empty() && follower.unacked.front().first <= index) {
      follower.unacked_bytes -= follower.unacked.front().second;
      follower.unacked.pop_front();
    }
    Release([i, index](const Held&, const Wait& wait) { return wait.follower == i && wait.index <= index; },
            effects);
    return;
  }
}

std::vector<ReplicaLog::Place> ReplicaLog::Unacknowledged(uint32_t local) const {
  std::vector<Place> places;
  for (const Follower& follower : followers_) {
    if (follower.follows[local] != Follows::kNot && follower.acked < follower.last) {
      places.push_back({follower.server, follower.last});
    }
  }
  return places;
}

bool ReplicaLog::IsPassed(const Place& place, uint32_t local) const {
  const Follower* follower = Find(place.follower);
  return follower == nullptr || follower->follows[local] == Follows::kNot || follower->acked >= place.index;
}

void ReplicaLog::Finish(PushDone done, std::span<const uint8_t> touched, ShardEffects* effects) {
  Held held;
  for (size_t f = 0; f < followers_.size(); ++f) {
    const Follower& follower = followers_[f];
    if (!follower.active || follower.acked == follower.last) continue;
    for (size_t i = 0; i < touched.size(); ++i) {
      if (touched[i] == 0 || !MustHave(follower.follows[i])) continue;
      held.waits.push_back({f, follower.last});
      break;
    }
  }
  if (held.waits.empty()) {
    effects->pushes.push_back(std::move(done));
    return;
  }
  held.done = std::move(done);
  for (uint32_t i = 0; i < touched.size(); ++i) {
    if (touched[i] != 0) held.touched.push_back(i);
  }
  held_.push_back(std::move(held));
}

bool ReplicaLog::Cancel(CallToken token) {
  return std::erase_if(held_, [token](const Held& held) { return held.done.token == token; }) > 0;
}

void ReplicaLog::SetGrant(Incarnation server, TimeMs until) {
  for (Follower& follower : followers_) {
    if (follower.server == server) follower.granted_until = std::max(follower.granted_until, until);
  }
}

TimeMs ReplicaLog::GrantedUntil(std::span<const uint8_t> touched, Incarnation* missing) const {
  TimeMs until = std::numeric_limits<TimeMs>::max();
  for (const Follower& follower : followers_) {
    if (!follower.active || follower.granted_until >= until) continue;
    for (size_t i = 0; i < touched.size(); ++i) {
      if (touched[i] == 0 || follower.follows[i] < Follows::kFilled) continue;
      until = follower.granted_until;
      *missing = follower.server;
      break;
    }
  }
  return until;
}

}  // namespace tidegate
