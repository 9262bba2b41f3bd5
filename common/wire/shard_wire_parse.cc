#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/wire/proto_reader.h"
#include "common/wire/shard_wire.h"

namespace tidegate::wire {
namespace {

using enum WireKind;

absl::Status Invalid(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("broken message: ", what));
}
template <typename Range>
absl::Status EndOf(const ProtoReader<Range>& in, const char* message) {
  if (in.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("broken message: ", message, " is truncated or no protobuf"));
}

template <typename T>
absl::Status ReadPacked(Bytes bytes, const char* name, PackedSpan<T>* out) {
  if (bytes.size() % sizeof(T) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(name, " of ", bytes.size(),
                                                   " bytes: must be a multiple of ", sizeof(T)));
  }
  *out = PackedSpan<T>(bytes);
  return absl::OkStatus();
}

absl::Status ReadValueType(const ProtoReader<Bytes>& in, ValueType* out) {
  if (in.varint32() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("wire_type ", in.varint32(), " is not known"));
  }
  *out = static_cast<ValueType>(in.varint32());
  return absl::OkStatus();
}

template <typename Range>
absl::Status ReadShards(const ProtoReader<Range>& in, absl::InlinedVector<uint32_t, 4>* out) {
  if (!ReadNumbers(in, kRefusedShardsMax, out)) return Invalid("refused_shards");
  return out->size() > kRefusedShardsMax ? Invalid("more refused_shards than there can be shards")
                                         : absl::OkStatus();
}
template <typename Range>
absl::Status ReadContributors(const ProtoReader<Range>& in, std::vector<Incarnation>* out) {
  if (!ReadNumbers(in, kContributorsMax, out)) return Invalid("contributors");
  return out->size() > kContributorsMax ? Invalid("too many contributors") : absl::OkStatus();
}

absl::Status Read(Bytes bytes, Stamp* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    if (in.Is(1, kVarint)) out->generation = in.varint();
    if (in.Is(2, kVarint)) out->epoch = in.varint();
    if (in.Is(3, kVarint)) out->incarnation = in.varint();
  }
  return EndOf(in, "Stamp");
}

absl::Status Read(Bytes bytes, TableKeys* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    if (in.Is(1, kVarint)) out->table = in.varint32();
    if (in.Is(2, kBytes)) {
      if (absl::Status s = ReadPacked(in.bytes(), "keys", &out->keys); !s.ok()) return s;
    }
  }
  return EndOf(in, "TableKeys");
}

template <typename Range>
absl::Status Read(Range bytes, TableRows* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    if (in.Is(1, kVarint)) out->table = in.varint32();
    if (in.Is(2, kBytes)) out->values = FragmentsOf(in.bytes());
  }
  return EndOf(in, "TableRows");
}

absl::Status Read(Bytes bytes, TableGradients* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out->table = in.varint32();
    if (in.Is(2, kBytes)) s = ReadPacked(in.bytes(), "keys", &out->keys);
    if (in.Is(3, kBytes)) out->values = in.bytes();
    if (in.Is(4, kBytes)) s = ReadPacked(in.bytes(), "counts", &out->counts);
    if (!s.ok()) return s;
  }
  if (absl::Status s = EndOf(in, "TableGradients"); !s.ok()) return s;
  if (!out->counts.empty() && out->counts.size() != out->keys.size()) {
    return absl::InvalidArgumentError(absl::StrCat("table ", out->table, ": ", out->counts.size(),
                                                   " counts for ", out->keys.size(), " keys"));
  }
  return absl::OkStatus();
}

template <typename Range, typename Table>
absl::Status ReadTable(Range bytes, absl::InlinedVector<Table, 4>* tables) {
  if (tables->size() == kTablesMax) return Invalid("too many tables");
  return Read(bytes, &tables->emplace_back());
}

absl::Status Read(Bytes bytes, PullRequest* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kBytes)) s = Read(in.bytes(), &out->stamp);
    if (in.Is(2, kVarint)) out->clock = in.zigzag();
    if (in.Is(3, kVarint)) out->bound = in.zigzag();
    if (in.Is(4, kVarint)) {
      if (in.varint32() > 1) return Invalid("mode is not known");
      out->eval = in.varint32() == 1;
    }
    if (in.Is(5, kVarint)) s = ReadValueType(in, &out->value_type);
    if (in.Is(6, kBytes)) s = ReadTable(in.bytes(), &out->tables);
    if (!s.ok()) return s;
  }
  return EndOf(in, "PullRequest");
}

template <typename Range>
absl::Status Read(Range bytes, PullResponse* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out->epoch = in.varint();
    if (in.Is(2, kVarint)) out->min_clock = in.zigzag();
    if (in.field() == 3) s = ReadShards(in, &out->refused_shards);
    if (in.Is(4, kBytes)) s = ReadTable(in.bytes(), &out->tables);
    if (!s.ok()) return s;
  }
  return EndOf(in, "PullResponse");
}

absl::Status Read(Bytes bytes, PushRequest* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kBytes)) s = Read(in.bytes(), &out->stamp);
    if (in.Is(2, kVarint)) out->sequence = in.varint();
    if (in.Is(3, kVarint)) out->oldest_unacked = in.varint();
    if (in.Is(4, kVarint)) out->clock = in.zigzag();
    if (in.Is(5, kFixed64)) out->weight = in.fixed_double();
    if (in.Is(6, kVarint)) out->part = in.varint32();
    if (in.Is(7, kVarint)) out->parts = in.varint32();
    if (in.Is(8, kVarint)) s = ReadValueType(in, &out->value_type);
    if (in.Is(9, kBytes)) s = ReadTable(in.bytes(), &out->tables);
    if (in.Is(10, kVarint)) out->asks = in.varint() != 0;
    if (!s.ok()) return s;
  }
  if (out->parts == 0) out->parts = 1;  // left out by guests
  return EndOf(in, "PushRequest");
}

template <typename Range>
absl::Status Read(Range bytes, PushResponse* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out->epoch = in.varint();
    if (in.field() == 2) s = ReadShards(in, &out->refused_shards);
    if (in.Is(3, kVarint)) out->duplicate_rows = in.varint();
    if (in.field() == 4) s = ReadContributors(in, &out->contributors);
    if (in.Is(5, kVarint)) out->closed = in.zigzag();
    if (!s.ok()) return s;
  }
  return EndOf(in, "PushResponse");
}

absl::Status Read(Bytes bytes, ClosedClock* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out->clock = in.zigzag();
    if (in.field() == 2) s = ReadContributors(in, &out->contributors);
    if (!s.ok()) return s;
  }
  return EndOf(in, "ClosedClock");
}

absl::Status ReadTick(Bytes bytes, ClockRequest* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    if (in.Is(1, kVarint)) out->clock = in.zigzag();
    if (!in.Is(2, kBytes)) continue;
    if (out->closed.size() == kClosedClocksMax) return Invalid("too many closed clocks");
    if (absl::Status s = Read(in.bytes(), &out->closed.emplace_back()); !s.ok()) return s;
  }
  return EndOf(in, "Tick");
}

absl::Status Read(Bytes bytes, ClockRequest* out) {
  using Kind = ClockRequest::Kind;
  ProtoReader in(bytes);
  std::optional<Kind> kind;
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kBytes)) s = Read(in.bytes(), &out->stamp);
    if (in.Is(2, kVarint)) out->order = in.varint();
    if (in.field() >= 3 && in.field() <= 5 && in.Is(in.field(), kBytes)) {
      const Kind next = static_cast<Kind>(in.field() - 3);
      if (kind != next) {
        out->clock = 0;
        out->closed.clear();
      }
      kind = next;
      ClockRequest ignored;
      s = ReadTick(in.bytes(), next == Kind::kTick ? out : &ignored);
    }
    if (!s.ok()) return s;
  }
  if (absl::Status s = EndOf(in, "ClockRequest"); !s.ok()) return s;
  if (!kind) return Invalid("ClockRequest without hello, tick or park");
  out->kind = *kind;
  return absl::OkStatus();
}

template <typename Range>
absl::Status Read(Range bytes, ClockResponse* out) {
  ProtoReader in(bytes);
  while (in.Next()) {
    if (in.Is(1, kVarint)) out->epoch = in.varint();
    if (in.Is(2, kVarint)) out->min_clock = in.zigzag();
  }
  return EndOf(in, "ClockResponse");
}

template <typename T>
absl::StatusOr<T> Parse(Bytes bytes) {
  T out;
  if (absl::Status s = Read(bytes, &out); !s.ok()) return s;
  return out;
}
// A member of a oneof: the last one named wins, one named twice is merged.
template <typename T, typename Range, typename Variant>
absl::Status ReadInto(Range bytes, Variant* body) {
  if (!std::holds_alternative<T>(*body)) body->template emplace<T>();
  return Read(bytes, &std::get<T>(*body));
}

std::string ToString(const Fragments& bytes) {
  std::string out;
  for (const Bytes piece : bytes.pieces()) {
    out.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  return out;
}

template <typename Range>
absl::StatusOr<StreamResponse> ParseStream(Range bytes) {
  StreamResponse out;
  uint32_t code = 0;
  std::string error;
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out.call = in.varint();
    if (in.Is(2, kVarint)) code = in.varint32();
    if (in.Is(3, kBytes)) error = ToString(FragmentsOf(in.bytes()));
    if (in.Is(4, kBytes)) s = ReadInto<PullResponse>(in.bytes(), &out.body);
    if (in.Is(5, kBytes)) s = ReadInto<PushResponse>(in.bytes(), &out.body);
    if (in.Is(6, kBytes)) s = ReadInto<ClockResponse>(in.bytes(), &out.body);
    if (!s.ok()) return s;
  }
  if (absl::Status s = EndOf(in, "StreamResponse"); !s.ok()) return s;
  if (code != 0) {
    constexpr uint32_t kCodeMax = 16;  // UNAUTHENTICATED
    out.body = absl::Status(
        code <= kCodeMax ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown, error);
  } else if (std::holds_alternative<absl::Status>(out.body)) {
    return Invalid("StreamResponse without code, pull, push or clock");
  }
  return out;
}

}  // namespace

absl::StatusOr<PullRequest> ParsePullRequest(Bytes bytes) { return Parse<PullRequest>(bytes); }
absl::StatusOr<PushRequest> ParsePushRequest(Bytes bytes) { return Parse<PushRequest>(bytes); }
absl::Status MergePushRequest(Bytes bytes, PushRequest* out) { return Read(bytes, out); }
absl::StatusOr<ClockRequest> ParseClockRequest(Bytes bytes) { return Parse<ClockRequest>(bytes); }
absl::StatusOr<PullResponse> ParsePullResponse(Bytes bytes) { return Parse<PullResponse>(bytes); }
absl::StatusOr<PushResponse> ParsePushResponse(Bytes bytes) { return Parse<PushResponse>(bytes); }
absl::StatusOr<ClockResponse> ParseClockResponse(Bytes bytes) { return Parse<ClockResponse>(bytes); }

absl::StatusOr<StreamRequest> ParseStreamRequest(Bytes bytes) {
  StreamRequest out;
  bool has_body = false;
  ProtoReader in(bytes);
  while (in.Next()) {
    absl::Status s;
    if (in.Is(1, kVarint)) out.call = in.varint();
    if (in.Is(2, kBytes)) s = ReadInto<PullRequest>(in.bytes(), &out.body);
    if (in.Is(3, kBytes)) s = ReadInto<PushRequest>(in.bytes(), &out.body);
    if (in.Is(4, kBytes)) s = ReadInto<ClockRequest>(in.bytes(), &out.body);
    if (!s.ok()) return s;
    has_body |= in.field() >= 2 && in.field() <= 4 && in.Is(in.field(), kBytes);
  }
  if (absl::Status s = EndOf(in, "StreamRequest"); !s.ok()) return s;
  if (!has_body) return Invalid("StreamRequest without pull, push or clock");
  return out;
}

absl::StatusOr<StreamResponse> ParseStreamResponse(Bytes bytes) { return ParseStream(bytes); }
absl::StatusOr<StreamResponse> ParseFragmentedStreamResponse(const Fragments& message) {
  return ParseStream(RangeOf(message));
}

uint64_t CallOf(Bytes bytes) {
  uint64_t call = 0;
  ProtoReader in(bytes);
  while (in.Next()) {
    if (in.Is(1, kVarint)) call = in.varint();
  }
  return call;
}

}  // namespace tidegate::wire
