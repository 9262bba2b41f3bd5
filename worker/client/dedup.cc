#include "worker/client/dedup.h"

#include <algorithm>
#include <bit>

#include "common/logging.h"
#include "common/stable_hash.h"

namespace tidegate {

void KeyDedup::Reserve(size_t keys) {
  const size_t wanted = std::bit_ceil(std::max<size_t>(2 * keys, 64));
  if (slots_.size() < wanted || ++round_ == 0) {
    slots_.assign(std::max(wanted, slots_.size()), Slot{});
    round_ = 1;
  }
  distinct_.clear();
  server_.clear();
  samples_.clear();
  last_sample_.clear();
}

uint32_t KeyDedup::Find(TableId table, Key key, const Routing* routing) {
  const uint64_t hash = PlacementHash(table, key);
  const size_t mask = slots_.size() - 1;
  size_t at = hash & mask;
  while (slots_[at].round == round_) {
    if (slots_[at].key == key) return slots_[at].index;
    at = (at + 1) & mask;
  }
  const uint32_t index = static_cast<uint32_t>(distinct_.size());
  slots_[at] = {key, index, round_};
  distinct_.push_back(key);
  samples_.push_back(0);
  last_sample_.push_back(0);
  if (routing != nullptr) server_.push_back(routing->ServerOfHash(hash));
  return index;
}

// rank_[i]: where distinct key i stands when they are sorted by server, stably.
void KeyDedup::GroupByServer(size_t servers) {
  std::vector<uint32_t> next(servers + 1);
  for (uint32_t s : server_) ++next[s + 1];
  for (size_t s = 0; s < servers; ++s) next[s + 1] += next[s];
  rank_.resize(server_.size());
  for (size_t i = 0; i < server_.size(); ++i) rank_[i] = next[server_[i]]++;
}

void KeyDedup::Run(TableId table, std::span<const DedupColumn> columns, const Routing* routing,
                   std::vector<Key>* keys, std::vector<uint32_t>* counts) {
  if (routing != nullptr && routing->servers().size() == 1) routing = nullptr;
  size_t total = 0, rows = 0;
  for (const DedupColumn& c : columns) {
    TG_CHECK(!c.offsets.empty() && c.offsets.back() == c.keys.size()) << "offsets do not fit keys";
    rows = c.offsets.size() - 1;
    total += c.keys.size();
    c.position->resize(c.keys.size());
  }
  for (const DedupColumn& c : columns) TG_CHECK_EQ(c.offsets.size(), rows + 1);
  Reserve(total + columns.size());
  for (uint32_t row = 0; row < rows; ++row) {
    for (const DedupColumn& c : columns) {
      for (uint32_t i = c.offsets[row]; i < c.offsets[row + 1]; ++i) {
        const uint32_t index = Find(table, c.keys[i], routing);
        (*c.position)[i] = index;
        samples_[index] += last_sample_[index] != row + 1;
        last_sample_[index] = row + 1;
      }
    }
  }
  for (const DedupColumn& c : columns) {
    if (c.oov && !c.keys.empty()) *c.oov_position = Find(table, *c.oov, routing);
  }
  if (routing == nullptr) {
    keys->assign(distinct_.begin(), distinct_.end());
    counts->assign(samples_.begin(), samples_.end());
    return;
  }
  GroupByServer(routing->servers().size());
  keys->resize(distinct_.size());
  counts->resize(distinct_.size());
  for (size_t i = 0; i < distinct_.size(); ++i) {
    (*keys)[rank_[i]] = distinct_[i];
    (*counts)[rank_[i]] = samples_[i];
  }
  for (const DedupColumn& c : columns) {
    for (uint32_t& p : *c.position) p = rank_[p];
    if (c.oov && !c.keys.empty()) *c.oov_position = rank_[*c.oov_position];
  }
}

}  // namespace tidegate
