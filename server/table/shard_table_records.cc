// ShardTable's content as bytes: records for checkpoints and snapshots, and the digest.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/stable_hash.h"
#include "server/table/shard_table.h"
#include "server/table/value_codec.h"
#include "xxhash.h"

namespace tidegate {
namespace {

constexpr uint32_t kRowRecord = 0;
constexpr uint32_t kCounterRecord = 1;
constexpr size_t kRecordHead = sizeof(Key) + sizeof(uint32_t);
constexpr size_t kDigestChunk = 1024;  // keys

template <typename T>
void Append(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T Read(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

}  // namespace

void ShardTable::AppendRows(std::span<const Key> keys, std::string* out) const {
  for (const Key key : keys) {
    const size_t slot = index_.Find(IndexHash(key), key);
    const RowId row = index_.RowAt(slot);
    if (row == KeyIndex::kEmpty) continue;
    if (row != kUnadmitted) {
      AppendRow(key, HeaderAt(row), {RowAt(row), layout_->data_bytes()}, out);
      continue;
    }
    Append(key, out);
    Append(kCounterRecord, out);
    Append(index_.CounterAt(slot), out);
  }
}

void ShardTable::AppendRow(Key key, const RowHeader& header, std::span<const std::byte> data, std::string* out) {
  Append(key, out);
  Append(kRowRecord, out);
  Append(header, out);
  out->append(reinterpret_cast<const char*>(data.data()), data.size());
}

absl::Status ShardTable::LoadRows(std::span<const std::byte> bytes) {
  size_t offset = 0;
  while (offset < bytes.size()) {
    const size_t start = offset;
    if (absl::Status status = LoadRecord(bytes, &offset); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("rows of table \"", layout_->name(), "\", shard ",
                                                     shard_, ", record at byte ", start, ": ",
                                                     std::string(status.message())));
    }
  }
  return absl::OkStatus();
}

absl::Status ShardTable::LoadRecord(std::span<const std::byte> bytes, size_t* offset) {
  if (bytes.size() - *offset < kRecordHead) return absl::InvalidArgumentError("truncated");
  const Key key = Read<Key>(bytes, *offset);
  const uint32_t kind = Read<uint32_t>(bytes, *offset + sizeof(Key));
  *offset += kRecordHead;
  if (kind != kRowRecord && kind != kCounterRecord) {
    return absl::InvalidArgumentError(absl::StrCat("unknown kind ", kind));
  }
  const size_t size = kind == kRowRecord ? layout_->row_bytes() : sizeof(uint32_t);
  if (bytes.size() - *offset < size) return absl::InvalidArgumentError("truncated");
  const std::span<const std::byte> body = bytes.subspan(*offset, size);
  *offset += size;

  const uint64_t hash = PlacementHash(layout_->table(), key);
  if (ShardOfHash(hash, log2_shards_) != shard_) {
    return absl::InvalidArgumentError(
        absl::StrCat("key ", key, " belongs to shard ", ShardOfHash(hash, log2_shards_)));
  }
  if (absl::Status status = layout_->CheckKeys(PackedSpan<Key>(&key, 1)); !status.ok()) return status;
  if (index_.RowAt(index_.Find(IndexHash(key), key)) != KeyIndex::kEmpty) {
    return absl::InvalidArgumentError(absl::StrCat("key ", key, " is there twice"));
  }
  if (kind == kCounterRecord) {
    index_.CounterAt(Insert(key, kUnadmitted)) = Read<uint32_t>(body, 0);
    ++unadmitted_;
    log_.Counter(key, unadmitted_);
    return absl::OkStatus();
  }
  const std::span<const std::byte> data = body.subspan(sizeof(RowHeader));
  for (const RowLayout::Part& part : layout_->parts()) {
    const size_t value_bytes = size_t{part.dim} * (part.bfloat16 ? 2 : 4);
    if (!AllFinite(data.subspan(part.value_offset, value_bytes), part.bfloat16 ? BFLOAT16 : FLOAT32) ||
        !AllFinite(data.subspan(part.slot_offset, size_t{part.optimizer.slots()} * 4), FLOAT32)) {
      return absl::InvalidArgumentError(
          absl::StrCat("part \"", part.name, "\" of key ", key, " has a value that is not finite"));
    }
  }
  const RowId row = AllocateRow();
  log_.Row(row);
  Insert(key, row);
  HeaderAt(row) = Read<RowHeader>(body, 0);
  ++rows_;
  std::memcpy(RowAt(row), data.data(), data.size());
  return absl::OkStatus();
}

uint64_t ShardTable::Digest() const {
  XXH3_state_t* state = XXH3_createState();
  TG_CHECK(state != nullptr) << "out of memory";
  XXH3_64bits_reset(state);
  const std::vector<Key> keys = SortedKeys();
  std::string chunk;
  for (size_t begin = 0; begin < keys.size(); begin += kDigestChunk) {
    chunk.clear();
    AppendRows(std::span(keys).subspan(begin, std::min(kDigestChunk, keys.size() - begin)), &chunk);
    XXH3_64bits_update(state, chunk.data(), chunk.size());
  }
  const uint64_t digest = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return digest;
}

}  // namespace tidegate
