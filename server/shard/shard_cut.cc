#include "server/shard/shard_cut.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/logging.h"

namespace tidegate {

void ShardCut::Arm(uint64_t number, Clock clock, uint64_t base) {
  *this = ShardCut();
  state_ = State::kArmed;
  number_ = number;
  base_ = base;
  clock_ = clock;
}

void ShardCut::Drop(uint64_t number) {
  if (number_ == number) *this = ShardCut();
}

void ShardCut::Begin(const TableGroups* tables, const ShardMap& shards, const Sessions& sessions,
                     Clock released, Clock highest, TouchedSince* since) {
  TG_CHECK(state_ == State::kArmed) << "cut " << number_;
  state_ = State::kOpen;
  tables_ = tables;
  parts_.resize(shards.shards().size() * tables->size());
  incremental_.assign(shards.shards().size(), 0);
  for (ShardId shard : shards.shards()) {
    const uint32_t local = static_cast<uint32_t>(headers_.size());
    ShardFileHeader& header = headers_.emplace_back();
    if (!shards.Leads(shard)) {
      for (TableId id = 0; id < tables->size(); ++id) At(local, id).stage = Part::kDone;
      continue;
    }
    parts_left_ += tables->size();
    if (since != nullptr) BeginTouched(local, since);
    header.set_shard(shard);
    header.set_shards(1u << shards.log2_shards());
    header.set_clock(released);
    header.set_highest_clock(highest);
    sessions.AppendRecords(local, &header);
  }
  if (parts_left_ == 0) *this = ShardCut();
}

void ShardCut::BeginTouched(uint32_t local, TouchedSince* since) {
  since->resize(std::max<size_t>(since->size(), local + 1));
  bool known = base_ != 0 && (*since)[local] == base_;
  for (TableId id = 0; id < tables_->size(); ++id) {
    Part& part = At(local, id);
    part.touched = (*tables_)[id]->shard(local).TakeTouched();
    known = known && !part.touched.unknown;
  }
  for (TableId id = 0; id < tables_->size(); ++id) {
    Part& part = At(local, id);
    part.incremental = known;
    if (known) part.removed = std::move(part.touched.removed);
    if (!known) part.touched = TouchedRows();
  }
  incremental_[local] = known ? 1 : 0;
  (*since)[local] = number_;
}

bool ShardCut::IsGivenOut(const Part& part, Key key) const {
  if (part.stage == Part::kFrozen || part.stage == Part::kDone) return true;
  return part.stage == Part::kOrdered && part.next > 0 && key <= part.keys[part.next - 1];
}

void ShardCut::BeforeWrite(TableId id, PackedSpan<Key> keys, std::span<const uint32_t> positions) {
  TableGroup& table = *(*tables_)[id];
  if (!table.layout().admits_at_once()) {
    // A shard that has no room for counters halves all of them.
    const uint64_t more = positions.empty() ? keys.size() : positions.size();
    for (uint32_t local = 0; local < headers_.size(); ++local) {
      if (table.shard(local).MayHalveCounters(more)) Freeze(local, id);
    }
  }
  const auto save = [&](Key key) {
    const uint32_t local = table.LocalOfKey(key);
    if (local >= headers_.size()) return;  // came after the cut
    Part& part = At(local, id);
    if (IsGivenOut(part, key)) return;
    if (part.incremental && !table.shard(local).WasTouched(part.touched, key)) return;
    const auto [record, added] = part.saved.try_emplace(key);
    if (added) table.shard(local).AppendRows(std::span(&key, 1), &record->second);
  };
  if (positions.empty()) {
    for (size_t i = 0; i < keys.size(); ++i) save(keys[i]);
  } else {
    for (uint32_t position : positions) save(keys[position]);
  }
}

void ShardCut::BeforeSweep(TableId id) {
  for (uint32_t local = 0; local < headers_.size(); ++local) Freeze(local, id);
}

void ShardCut::Freeze(uint32_t local, TableId id) {
  Part& part = At(local, id);
  if (part.stage == Part::kFrozen || part.stage == Part::kDone) return;
  const ShardTable& table = (*tables_)[id]->shard(local);
  if (part.stage == Part::kPending) {
    part.keys = KeysOf(part, table);
    std::sort(part.keys.begin(), part.keys.end());
    part.keys.erase(std::unique(part.keys.begin(), part.keys.end()), part.keys.end());
  }
  for (; part.next < part.keys.size(); ++part.next) {
    AppendRecord(part, table, part.keys[part.next], &part.frozen, &part.frozen_rows);
  }
  part.stage = Part::kFrozen;
  part.keys = {};
  part.saved = {};
  part.touched = {};
}

void ShardCut::AppendRecord(const Part& part, const ShardTable& table, Key key, std::string* out,
                            uint64_t* rows) const {
  const size_t start = out->size();
  if (const auto saved = part.saved.find(key); saved != part.saved.end()) {
    out->append(saved->second);
  } else {
    table.AppendRows(std::span(&key, 1), out);
  }
  if (out->size() == start) return;
  uint32_t kind;
  std::memcpy(&kind, out->data() + start + sizeof(Key), sizeof(kind));
  if (kind == 0) ++*rows;
}

std::vector<Key> ShardCut::KeysOf(const Part& part, const ShardTable& table) const {
  if (!part.incremental) return table.Keys();
  std::vector<Key> keys = table.TouchedKeys(part.touched);
  // A counter may have become a row since the cut, which nothing says was touched before.
  for (const auto& [key, record] : part.saved) {
    if (!record.empty()) keys.push_back(key);
  }
  return keys;
}

std::vector<Key> ShardCut::ListKeys(uint32_t local, TableId id) {
  if (At(local, id).stage != Part::kPending) return {};
  return KeysOf(At(local, id), (*tables_)[id]->shard(local));
}

void ShardCut::SetOrder(uint32_t local, TableId id, std::vector<Key> sorted) {
  Part& part = At(local, id);
  if (part.stage != Part::kPending) return;
  part.stage = Part::kOrdered;
  part.keys = std::move(sorted);
}

bool ShardCut::Next(uint32_t local, TableId id, size_t bytes, std::string* out, uint64_t* rows) {
  Part& part = At(local, id);
  TG_CHECK(part.stage == Part::kOrdered || part.stage == Part::kFrozen)
      << "shard " << headers_[local].shard() << ", table " << id;
  if (part.stage == Part::kFrozen) {
    out->append(part.frozen);
    *rows += part.frozen_rows;
  } else {
    const ShardTable& table = (*tables_)[id]->shard(local);
    const size_t full = out->size() + bytes;
    while (part.next < part.keys.size() && out->size() < full) {
      const Key key = part.keys[part.next++];
      AppendRecord(part, table, key, out, rows);
      part.saved.erase(key);
    }
    if (part.next < part.keys.size()) return true;
  }
  part = Part();
  part.stage = Part::kDone;
  if (--parts_left_ == 0) *this = ShardCut();
  return false;
}

}  // namespace tidegate
