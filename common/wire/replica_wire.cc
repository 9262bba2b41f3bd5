#include "common/wire/replica_wire.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/wire/proto_reader.h"
#include "common/wire/proto_writer.h"

namespace tidegate::wire {
namespace {

using enum WireKind;

constexpr size_t kShardsMax = 65536;
constexpr uint32_t kKeepAliveField = 9, kPushField = 10, kControlField = 11, kFillField = 12;

// ---- reading ---------------------------------------------------------------

absl::Status Invalid(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("broken message: ", what));
}
absl::Status EndOf(const ProtoReader<Bytes>& in, const char* message) {
  return in.ok() ? absl::OkStatus() : Invalid(absl::StrCat(message, " is truncated or no protobuf"));
}

// Of a repeated number, packed or not.
template <typename Shards>
absl::Status ReadShards(const ProtoReader<Bytes>& in, const char* name, Shards* out) {
  if (!ReadNumbers(in, kShardsMax, out)) return Invalid(name);
  return out->size() > kShardsMax ? Invalid(absl::StrCat("more ", name, " than there can be shards"))
                                  : absl::OkStatus();
}

template <typename Proto>
absl::Status MergeProto(Bytes bytes, const char* name, Proto* out) {
  Proto part;
  if (bytes.size() > static_cast<size_t>(std::numeric_limits<int>::max()) ||
      !part.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Invalid(absl::StrCat(name, " is truncated or no protobuf"));
  }
  part.DiscardUnknownFields();
  out->MergeFrom(part);
  return absl::OkStatus();
}

absl::Status Read(Bytes bytes, KeepAlive*) {
  ProtoReader in(bytes);
  while (in.Next()) {
  }
  return EndOf(in, "KeepAlive");
}

absl::Status Read(Bytes bytes, PushRecord* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out->clock = in.zigzag();
    if (in.Is(2, kFixed32)) out->lr_scale = in.fixed_float();
    if (in.field() == 3) s = ReadShards(in, "skip_shards", &out->skip_shards);
    if (in.field() == 4) s = ReadShards(in, "ended_shards", &out->ended_shards);
    if (in.Is(5, kBytes)) s = MergePushRequest(in.bytes(), &out->push);
    if (in.field() == 6 && !ReadNumbers(in, kContributorsMax, &out->contributors)) s = Invalid("contributors");
    if (out->contributors.size() > kContributorsMax) s = Invalid("too many contributors");
    if (!s.ok()) return s;
  }
  return EndOf(in, "PushRecord");
}

absl::Status Read(Bytes bytes, SweepRecord* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    if (in.Is(1, kVarint)) out->table = in.varint32();
    if (in.Is(2, kVarint)) out->clock = in.zigzag();
    if (in.field() != 3) continue;
    if (absl::Status s = ReadShards(in, "shards", &out->shards); !s.ok()) return s;
  }
  return EndOf(in, "SweepRecord");
}

absl::Status Read(Bytes bytes, WorkersRecord* out) { return MergeProto(bytes, "WorkerSet", &out->workers); }

absl::Status Read(Bytes bytes, DigestRecord* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.field() == 1) s = ReadShards(in, "shards", &out->shards);
    if (in.Is(2, kFixed64)) out->digests.push_back(in.fixed64());
    if (in.Is(2, kBytes)) {
      if (in.bytes().size() % sizeof(uint64_t) != 0) return Invalid("digests");
      const PackedSpan<uint64_t> packed(in.bytes());
      for (size_t i = 0; i < packed.size() && out->digests.size() <= kShardsMax; ++i) {
        out->digests.push_back(packed[i]);
      }
    }
    if (out->digests.size() > kShardsMax) return Invalid("more digests than there can be shards");
    if (!s.ok()) return s;
  }
  return EndOf(in, "DigestRecord");
}

absl::Status Read(Bytes bytes, FillRecord* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out->shard = in.varint32();
    if (in.Is(2, kBytes)) {
      out->begins = true;
      s = MergeProto(in.bytes(), "ShardFileHeader", &out->header);
    }
    if (in.Is(3, kVarint)) out->table = in.varint32();
    if (in.Is(4, kVarint)) out->end = in.varint() != 0;
    if (in.Is(5, kBytes)) out->records = in.bytes();
    if (!s.ok()) return s;
  }
  return EndOf(in, "FillRecord");
}

// A member of a oneof: the last one named wins, one named twice is merged.
template <typename T>
absl::Status ReadInto(Bytes bytes, Record* body) {
  if (!std::holds_alternative<T>(*body)) {
    body->emplace<T>();
    if constexpr (std::is_same_v<T, PushRecord>) std::get<T>(*body).lr_scale = 0;  // left out, it is 0
  }
  return Read(bytes, &std::get<T>(*body));
}

absl::Status ReadControl(Bytes bytes, Record* body, bool* has_kind) {
  ProtoReader in(bytes);
  while (in.Next()) {
    if (in.field() < 1 || in.field() > 3 || !in.Is(in.field(), kBytes)) continue;
    if (!*has_kind) *body = KeepAlive();  // another body was read before
    *has_kind = true;
    absl::Status s = in.field() == 1   ? ReadInto<SweepRecord>(in.bytes(), body)
                     : in.field() == 2 ? ReadInto<WorkersRecord>(in.bytes(), body)
                                       : ReadInto<DigestRecord>(in.bytes(), body);
    if (!s.ok()) return s;
  }
  return EndOf(in, "ControlRecord");
}

bool Ascending(std::span<const ShardId> shards) {
  return std::adjacent_find(shards.begin(), shards.end(), std::greater_equal<>()) == shards.end();
}

absl::Status CheckBody(const ReplicaRequest& m) {
  if (std::holds_alternative<KeepAlive>(m.body)) {
    return m.index == 0 ? absl::OkStatus() : Invalid("a KeepAlive with an index");
  }
  if (m.index == 0) return Invalid("a record of the log without an index");
  if (m.index < m.log_start) return Invalid("an index before log_start");
  if (const auto* push = std::get_if<PushRecord>(&m.body)) {
    if (!std::isfinite(push->lr_scale)) return Invalid("lr_scale is not finite");
    if (!Ascending(push->skip_shards)) return Invalid("skip_shards are not ascending");
    if (!Ascending(push->ended_shards)) return Invalid("ended_shards are not ascending");
  }
  if (const auto* digest = std::get_if<DigestRecord>(&m.body)) {
    if (digest->shards.size() != digest->digests.size()) return Invalid("as many digests as shards are needed");
  }
  return absl::OkStatus();
}

// ---- writing ---------------------------------------------------------------

Pieces Alone(std::string head) {
  Pieces out(1);
  out[0].head = std::move(head);
  return out;
}

Pieces Encode(const KeepAlive&) { return Pieces(1); }

Pieces Encode(const PushRecord& m) {
  std::string head;
  PutNumber(&head, 1, ZigZag(m.clock));
  const uint32_t lr_scale = std::bit_cast<uint32_t>(m.lr_scale);
  if (lr_scale != 0) {
    PutVarint(&head, 2 << 3 | static_cast<uint32_t>(kFixed32));
    head.append(reinterpret_cast<const char*>(&lr_scale), sizeof lr_scale);
  }
  PutPackedVarints(&head, 3, m.skip_shards);
  PutPackedVarints(&head, 4, m.ended_shards);
  Pieces out = Wrap(std::move(head), 5, EncodePush(m.push));
  if (m.contributors.empty()) return out;
  if (!out.back().payload.empty()) out.emplace_back();
  PutPackedVarints(&out.back().head, 6, m.contributors);
  return out;
}

Pieces EncodeControl(uint32_t kind, std::string body) {
  return Wrap("", kind, Alone(std::move(body)));
}
Pieces Encode(const SweepRecord& m) {
  std::string body;
  PutNumber(&body, 1, m.table);
  PutNumber(&body, 2, ZigZag(m.clock));
  PutPackedVarints(&body, 3, m.shards);
  return EncodeControl(1, std::move(body));
}
Pieces Encode(const WorkersRecord& m) { return EncodeControl(2, m.workers.SerializeAsString()); }
Pieces Encode(const DigestRecord& m) {
  std::string body;
  PutPackedVarints(&body, 1, m.shards);
  PutString(&body, 2, std::string_view(reinterpret_cast<const char*>(m.digests.data()),
                                       m.digests.size() * sizeof(uint64_t)));
  return EncodeControl(3, std::move(body));
}

Pieces Encode(const FillRecord& m) {
  Pieces out(1);
  std::string& head = out[0].head;
  PutNumber(&head, 1, m.shard);
  if (m.begins) {
    const std::string header = m.header.SerializeAsString();
    PutLength(&head, 2, header.size());
    head += header;
  }
  PutNumber(&head, 3, m.table);
  PutNumber(&head, 4, m.end);
  if (!m.records.empty()) {
    PutLength(&head, 5, m.records.size());
    out[0].payload = m.records;
  }
  return out;
}

uint32_t FieldOf(const Record& body) {
  constexpr uint32_t kFields[] = {kKeepAliveField, kPushField,    kControlField,
                                  kControlField,   kControlField, kFillField};
  return kFields[body.index()];
}

}  // namespace

absl::StatusOr<ReplicaRequest> ParseReplicaRequest(Bytes bytes) {
  ReplicaRequest out;
  std::optional<uint32_t> body;  // its field
  bool has_kind = false;         // of a ControlRecord
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out.generation = in.varint();
    if (in.Is(2, kVarint)) out.epoch = in.varint();
    if (in.Is(3, kVarint)) out.sender = in.varint();
    if (in.Is(4, kVarint)) out.receiver = in.varint();
    if (in.Is(5, kVarint)) out.sent_ms = static_cast<TimeMs>(in.varint());
    if (in.Is(6, kVarint)) out.lane = in.varint32();
    if (in.Is(7, kVarint)) out.index = in.varint();
    if (in.Is(8, kVarint)) out.log_start = in.varint();
    if (in.field() >= kKeepAliveField && in.field() <= kFillField && in.Is(in.field(), kBytes)) {
      if (body != in.field()) has_kind = false;
      body = in.field();
      s = *body == kKeepAliveField ? ReadInto<KeepAlive>(in.bytes(), &out.body)
          : *body == kPushField    ? ReadInto<PushRecord>(in.bytes(), &out.body)
          : *body == kFillField    ? ReadInto<FillRecord>(in.bytes(), &out.body)
                                   : ReadControl(in.bytes(), &out.body, &has_kind);
    }
    if (!s.ok()) return s;
  }
  if (absl::Status s = EndOf(in, "ReplicaRequest"); !s.ok()) return s;
  if (!body || (*body == kControlField && !has_kind)) return Invalid("ReplicaRequest without a body");
  if (out.sent_ms < 0) return Invalid("sent_ms is out of range");
  if (absl::Status s = CheckBody(out); !s.ok()) return s;
  return out;
}

Pieces EncodeReplicaRequest(const ReplicaRequest& request) {
  std::string head;
  PutNumber(&head, 1, request.generation);
  PutNumber(&head, 2, request.epoch);
  PutNumber(&head, 3, request.sender);
  PutNumber(&head, 4, request.receiver);
  PutNumber(&head, 5, static_cast<uint64_t>(request.sent_ms));
  PutNumber(&head, 6, request.lane);
  PutNumber(&head, 7, request.index);
  PutNumber(&head, 8, request.log_start);
  return Wrap(std::move(head), FieldOf(request.body), std::visit([](const auto& m) { return Encode(m); }, request.body));
}

}  // namespace tidegate::wire
