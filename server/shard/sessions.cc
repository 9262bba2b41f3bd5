#include "server/shard/sessions.h"

#include "absl/strings/str_cat.h"

namespace tidegate {

std::span<ShardSession> Sessions::Of(Incarnation worker) {
  std::vector<ShardSession>& session = sessions_[worker];
  if (session.size() < shards_) session.resize(shards_);
  return session;
}

std::vector<Incarnation> Sessions::Workers() const {
  std::vector<Incarnation> out;
  out.reserve(sessions_.size());
  for (const auto& [worker, session] : sessions_) out.push_back(worker);
  return out;
}

void Sessions::AppendRecords(size_t shard, ShardFileHeader* header) const {
  for (const auto& [worker, session] : sessions_) {
    const ShardSession& of_shard = session[shard];
    if (of_shard.floor() == 1 && of_shard.applied() == 0) continue;
    SessionRecord* record = header->add_sessions();
    record->set_incarnation(worker);
    record->set_floor(of_shard.floor());
    record->set_applied(of_shard.applied());
  }
}

absl::Status Sessions::FindDuplicates(std::span<ShardSession> session, Sequence sequence,
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
    session[i].RaiseFloor(oldest_unacked);
    if (session[i].IsDuplicate(sequence)) {
      skip[i] = 1;
      ++*duplicates;
    }
  }
  return absl::OkStatus();
}

void Sessions::MarkApplied(std::span<ShardSession> session, Sequence sequence,
                           std::span<const uint8_t> touched, std::span<const uint8_t> skip) {
  for (size_t i = 0; i < touched.size(); ++i) {
    if (touched[i] != 0 && skip[i] == 0) session[i].MarkApplied(sequence);
  }
}

}  // namespace tidegate
