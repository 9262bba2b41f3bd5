#pragma once
// Cuts the keys of a call into messages for each server, no longer than a limit. Each message owns one
// block of memory with its keys and, for a push, values and counts as they go over the wire; it stays
// alive as long as any attempt may still be sending it.
//
// Not thread-safe (scratch memory is reused); results are values.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/routing_table.h"
#include "common/types.h"
#include "common/wire/shard_wire.h"

namespace tidegate {

// One table's keys to be cut. `values` are keys.size() * width elements of the type named with them;
// null for a pull. Key i is row positions[i] of the caller's, or first + i where positions is empty.
struct KeySource {
  TableId table = 0;
  uint32_t width = 0;   // elements of a row
  uint32_t source = 0;  // index of the table in the call
  std::span<const Key> keys = {};
  const std::byte* values = nullptr;
  std::span<const uint32_t> counts = {};  // empty: 1 each
  uint32_t first = 0;
  std::span<const uint32_t> positions = {};
};

struct KeyBlock {
  TableId table = 0;
  uint32_t width = 0;
  uint32_t source = 0;
  std::span<const Key> keys;
  wire::Bytes values;
  std::span<const uint32_t> counts;
  uint32_t first = 0;  // as in KeySource
  std::span<const uint32_t> positions;
};

struct KeyMessage {
  std::shared_ptr<const void> owner;
  std::vector<KeyBlock> blocks;
  size_t bytes = 0;  // of keys, values (a pull: of its answer) and counts
  size_t keys = 0;
};

class KeySplitter {
 public:
  struct Types {
    wire::ValueType from = wire::ValueType::kFloat32;  // of the sources' values
    wire::ValueType to = wire::ValueType::kFloat32;    // on the wire
  };
  // Messages per server, in the order of routing.servers(); keys keep their order. A message's `bytes`
  // stay within the limit unless a single key is above it.
  std::vector<std::vector<KeyMessage>> Split(std::span<const KeySource> sources,
                                             const Routing& routing, Types types,
                                             size_t limit_bytes);
  // One message with those keys whose shard is among `shards`.
  KeyMessage Select(std::span<const KeySource> sources, const Routing& routing,
                    std::span<const uint32_t> shards, wire::ValueType type);
  // One message with everything.
  KeyMessage Copy(std::span<const KeySource> sources, Types types);

  // A message's blocks as sources again.
  static std::vector<KeySource> SourcesOf(const KeyMessage& message);

 private:
  // The keys of one table in one bucket: source rows order_[begin .. end), or begin .. end where the
  // table's keys come grouped (`grouped`).
  struct Run {
    uint32_t source;  // index into sources
    bool grouped;
    size_t begin;
    size_t end;
  };
  static constexpr uint32_t kDrop = ~0u;

  struct Cursor;

  void Bucket(std::span<const KeySource> sources, size_t buckets);
  KeyMessage Fill(std::span<const KeySource> sources, std::span<const Run> runs, Types types) const;
  void FillBlock(const KeySource& source, const Run& run, Types types, Cursor* at,
                 KeyBlock* block) const;

  std::vector<std::vector<uint32_t>> bucket_of_;  // by source; empty: all in bucket 0
  std::vector<uint32_t> order_;
  std::vector<std::vector<Run>> runs_;  // by bucket
};

}  // namespace tidegate
