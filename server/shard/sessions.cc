#include "server/shard/sessions.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tidegate {

std::span<ShardSession> Sessions::Of(Incarnation worker) {
  std::vector<ShardSession>& session = sessions_[worker];
  if (session.size() < shards_) session.resize(shards_);
  return session;
}

bool Sessions::IsMarked(Incarnation worker, size_t shard, Sequence sequence) const {
  const auto it = sessions_.find(worker);
  return it != sessions_.end() && shard < it->second.size() && it->second[shard].IsMarked(sequence);
}

std::vector<Incarnation> Sessions::Workers() const {
  std::vector<Incarnation> out;
  out.reserve(sessions_.size());
  for (const auto& [worker, session] : sessions_) out.push_back(worker);
  return out;
}

void Sessions::AppendRecords(size_t shard, ShardFileHeader* header) const {
  for (const auto& [worker, session] : sessions_) {
    if (shard >= session.size() || session[shard].empty()) continue;
    SessionRecord* record = header->add_sessions();
    record->set_incarnation(worker);
    record->set_floor(session[shard].floor());
    record->set_applied(session[shard].applied());
  }
}

void Sessions::Drop(Incarnation worker) {
  const auto it = sessions_.find(worker);
  if (it == sessions_.end()) return;
  bool keep = false;
  for (size_t i = 0; i < it->second.size(); ++i) {
    ShardSession& session = it->second[i];
    if (followed_[i] == 0) session = ShardSession();
    keep = keep || !session.empty();
  }
  if (!keep) sessions_.erase(it);
}

void Sessions::DropIn(Incarnation worker, size_t shard) {
  const auto it = sessions_.find(worker);
  if (it == sessions_.end() || shard >= it->second.size()) return;
  it->second[shard] = ShardSession();
  const auto empty = [](const ShardSession& session) { return session.empty(); };
  if (std::all_of(it->second.begin(), it->second.end(), empty)) sessions_.erase(it);
}

void Sessions::Clear(size_t shard) {
  for (Incarnation worker : Workers()) DropIn(worker, shard);
}

void Sessions::Load(size_t shard, const ShardFileHeader& header) {
  Clear(shard);
  for (const SessionRecord& record : header.sessions()) {
    Of(record.incarnation())[shard].Restore(record.floor(), record.applied());
  }
}

absl::Status Sessions::FindDuplicates(std::span<const ShardSession> session, Sequence sequence,
                                      Sequence oldest_unacked, std::span<const uint8_t> touched,
                                      std::span<uint8_t> skip, size_t* duplicates) {
  if (oldest_unacked > sequence || sequence - oldest_unacked >= kSessionWindow) {
    return absl::InvalidArgumentError(
        absl::StrCat("push with sequence ", sequence, " while oldest_unacked is ", oldest_unacked,
                     ": it must be in [sequence - ", kSessionWindow - 1, ", sequence]"));
  }
  *duplicates = 0;
  for (size_t i = 0; i < touched.size(); ++i) {
    skip[i] = 0;
    if (touched[i] == 0) continue;
    if (session[i].IsDuplicate(sequence)) {
      skip[i] = 1;
      ++*duplicates;
    }
  }
  return absl::OkStatus();
}

void Sessions::MarkApplied(std::span<ShardSession> session, Sequence sequence, Sequence oldest_unacked,
                           std::span<const uint8_t> touched, std::span<const uint8_t> skip) {
  for (size_t i = 0; i < touched.size(); ++i) {
    if (touched[i] == 0 || skip[i] != 0) continue;
    session[i].RaiseFloor(oldest_unacked);
    session[i].MarkApplied(sequence);
  }
}

}  // namespace tidegate
