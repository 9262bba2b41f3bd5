#include "worker/client/key_split.h"

#include <algorithm>
#include <cstring>

#include "common/stable_hash.h"
#include "worker/client/bfloat16.h"

namespace tidegate {

// Where the next keys, 4-byte numbers and values go in a message's memory.
struct KeySplitter::Cursor {
  Key* keys;
  uint32_t* numbers;
  std::byte* values;
};

void KeySplitter::Bucket(std::span<const KeySource> sources, size_t buckets) {
  runs_.assign(buckets, {});
  order_.clear();
  std::vector<size_t> begin(buckets + 1);
  for (uint32_t s = 0; s < sources.size(); ++s) {
    const size_t keys = sources[s].keys.size();
    const std::vector<uint32_t>& bucket_of = bucket_of_[s];
    if (keys == 0) continue;
    if (bucket_of.empty()) {
      runs_[0].push_back({s, true, 0, keys});
      continue;
    }
    std::fill(begin.begin(), begin.end(), 0);
    bool grouped = true;
    for (size_t i = 0; i < keys; ++i) {
      grouped &= bucket_of[i] != kDrop && (i == 0 || bucket_of[i] >= bucket_of[i - 1]);
      if (bucket_of[i] != kDrop) ++begin[bucket_of[i] + 1];
    }
    for (size_t b = 0; b < buckets; ++b) begin[b + 1] += begin[b];
    const size_t base = grouped ? 0 : order_.size();
    for (size_t b = 0; b < buckets; ++b) {
      if (begin[b + 1] == begin[b]) continue;
      runs_[b].push_back({s, grouped, base + begin[b], base + begin[b + 1]});
    }
    if (grouped) continue;
    order_.resize(base + begin[buckets]);
    for (size_t i = 0; i < keys; ++i) {
      if (bucket_of[i] != kDrop) order_[base + begin[bucket_of[i]]++] = static_cast<uint32_t>(i);
    }
  }
}

void KeySplitter::FillBlock(const KeySource& source, const Run& run, Types types, Cursor* at,
                            KeyBlock* block) const {
  const size_t n = run.end - run.begin;
  const uint32_t* order = run.grouped ? nullptr : order_.data() + run.begin;
  const auto row = [&](size_t i) -> size_t { return order ? order[i] : run.begin + i; };
  block->table = source.table;
  block->width = source.width;
  block->source = source.source;
  block->first = source.first + static_cast<uint32_t>(run.begin);

  block->keys = {at->keys, n};
  for (size_t i = 0; i < n; ++i) at->keys[i] = source.keys[row(i)];
  at->keys += n;
  if (!source.counts.empty()) {
    block->counts = {at->numbers, n};
    for (size_t i = 0; i < n; ++i) at->numbers[i] = source.counts[row(i)];
    at->numbers += n;
  }
  if (order != nullptr || !source.positions.empty()) {
    block->positions = {at->numbers, n};
    for (size_t i = 0; i < n; ++i) {
      at->numbers[i] = source.positions.empty() ? source.first + static_cast<uint32_t>(row(i))
                                                : source.positions[row(i)];
    }
    at->numbers += n;
  }
  if (source.values == nullptr) return;
  const size_t from_bytes = source.width * wire::SizeOf(types.from);
  const size_t to_bytes = source.width * wire::SizeOf(types.to);
  block->values = {at->values, n * to_bytes};
  if (types.from == types.to && order == nullptr) {
    std::memcpy(at->values, source.values + run.begin * from_bytes, n * to_bytes);
  } else {
    for (size_t i = 0; i < n; ++i) {
      const std::byte* from = source.values + row(i) * from_bytes;
      std::byte* to = at->values + i * to_bytes;
      if (types.from == types.to) {
        std::memcpy(to, from, to_bytes);
      } else {
        NarrowToBfloat16(from, source.width, to);
      }
    }
  }
  at->values += n * to_bytes;
}

KeyMessage KeySplitter::Fill(std::span<const KeySource> sources, std::span<const Run> runs,
                             Types types) const {
  KeyMessage out;
  size_t numbers = 0, value_bytes = 0;
  for (const Run& run : runs) {
    const KeySource& source = sources[run.source];
    const size_t n = run.end - run.begin;
    const size_t row_bytes = source.width * wire::SizeOf(types.to);
    const bool counts = !source.counts.empty();
    out.keys += n;
    out.bytes += n * (sizeof(Key) + row_bytes + (counts ? 4 : 0));
    if (counts) numbers += n;
    if (!run.grouped || !source.positions.empty()) numbers += n;
    if (source.values != nullptr) value_bytes += n * row_bytes;
  }
  // Keys, then 4-byte numbers, then values (read and written as bytes).
  const size_t bytes = out.keys * sizeof(Key) + numbers * 4 + value_bytes;
  auto memory = std::make_shared_for_overwrite<Key[]>((bytes + sizeof(Key) - 1) / sizeof(Key));
  Cursor at;
  at.keys = memory.get();
  at.numbers = reinterpret_cast<uint32_t*>(at.keys + out.keys);
  at.values = reinterpret_cast<std::byte*>(at.numbers + numbers);
  for (const Run& run : runs) {
    FillBlock(sources[run.source], run, types, &at, &out.blocks.emplace_back());
  }
  out.owner = std::move(memory);
  return out;
}

std::vector<std::vector<KeyMessage>> KeySplitter::Split(std::span<const KeySource> sources,
                                                        const Routing& routing, Types types,
                                                        size_t limit_bytes) {
  const size_t servers = routing.servers().size();
  bucket_of_.resize(std::max(bucket_of_.size(), sources.size()));
  for (size_t s = 0; s < sources.size(); ++s) {
    bucket_of_[s].clear();
    if (servers == 1) continue;
    bucket_of_[s].resize(sources[s].keys.size());
    for (size_t i = 0; i < sources[s].keys.size(); ++i) {
      bucket_of_[s][i] = routing.ServerOfHash(PlacementHash(sources[s].table, sources[s].keys[i]));
    }
  }
  Bucket(sources, servers);

  std::vector<std::vector<KeyMessage>> out(servers);
  std::vector<Run> message;
  for (size_t b = 0; b < servers; ++b) {
    size_t room = limit_bytes;
    message.clear();
    for (Run run : runs_[b]) {
      const KeySource& source = sources[run.source];
      const size_t key_bytes = sizeof(Key) + source.width * wire::SizeOf(types.to) +
                               (source.counts.empty() ? 0 : sizeof(uint32_t));
      while (run.begin < run.end) {
        size_t n = std::min(run.end - run.begin, room / key_bytes);
        if (n == 0 && message.empty()) n = 1;
        if (n == 0) {
          out[b].push_back(Fill(sources, message, types));
          message.clear();
          room = limit_bytes;
          continue;
        }
        message.push_back({run.source, run.grouped, run.begin, run.begin + n});
        run.begin += n;
        room -= std::min(room, n * key_bytes);
      }
    }
    if (!message.empty()) out[b].push_back(Fill(sources, message, types));
  }
  return out;
}

KeyMessage KeySplitter::Select(std::span<const KeySource> sources, const Routing& routing,
                               std::span<const uint32_t> shards, wire::ValueType type) {
  std::vector<bool> wanted(routing.shards());
  for (uint32_t shard : shards) {
    if (shard < wanted.size()) wanted[shard] = true;
  }
  bucket_of_.resize(std::max(bucket_of_.size(), sources.size()));
  for (size_t s = 0; s < sources.size(); ++s) {
    bucket_of_[s].resize(sources[s].keys.size());
    for (size_t i = 0; i < sources[s].keys.size(); ++i) {
      const uint64_t hash = PlacementHash(sources[s].table, sources[s].keys[i]);
      bucket_of_[s][i] = wanted[ShardOfHash(hash, routing.log2_shards())] ? 0 : kDrop;
    }
  }
  Bucket(sources, 1);
  return Fill(sources, runs_[0], {type, type});
}

KeyMessage KeySplitter::Copy(std::span<const KeySource> sources, Types types) {
  bucket_of_.resize(std::max(bucket_of_.size(), sources.size()));
  for (size_t s = 0; s < sources.size(); ++s) bucket_of_[s].clear();
  Bucket(sources, 1);
  return Fill(sources, runs_[0], types);
}

std::vector<KeySource> KeySplitter::SourcesOf(const KeyMessage& message) {
  std::vector<KeySource> out;
  for (const KeyBlock& b : message.blocks) {
    out.push_back({b.table, b.width, b.source, b.keys, b.values.empty() ? nullptr : b.values.data(),
                   b.counts, b.first, b.positions});
  }
  return out;
}

}  // namespace tidegate
