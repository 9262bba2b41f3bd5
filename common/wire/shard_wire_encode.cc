#include <bit>
#include <type_traits>

#include "common/wire/proto_writer.h"
#include "common/wire/shard_wire.h"

namespace tidegate::wire {
namespace {

// Small fields gather in the head of the last piece; each payload closes one.
class Writer {
 public:
  Writer() { pieces_.emplace_back(); }
  std::string* head() { return &pieces_.back().head; }
  void PutPayload(uint32_t field, const Fragments& payload) {
    if (payload.size() == 0) return;
    PutLength(head(), field, payload.size());
    for (const Bytes piece : payload.pieces()) {
      pieces_.back().payload = piece;
      pieces_.emplace_back();
    }
  }
  Pieces Take() {
    if (pieces_.size() > 1 && pieces_.back().head.empty()) pieces_.pop_back();
    return std::move(pieces_);
  }

 private:
  Pieces pieces_;
};

void PutStamp(std::string* out, uint32_t field, const Stamp& stamp) {
  std::string body;
  PutNumber(&body, 1, stamp.generation);
  PutNumber(&body, 2, stamp.epoch);
  PutNumber(&body, 3, stamp.incarnation);
  PutString(out, field, body);
}

void Put(Writer* out, const PullRequest& m) {
  std::string* head = out->head();
  PutStamp(head, 1, m.stamp);
  PutNumber(head, 2, ZigZag(m.clock));
  PutNumber(head, 3, ZigZag(m.bound));
  PutNumber(head, 4, m.eval);
  PutNumber(head, 5, static_cast<uint64_t>(m.value_type));
  for (const TableKeys& t : m.tables) {
    PutLength(out->head(), 6, NumberFieldSize(t.table) + BytesFieldSize(t.keys.bytes().size()));
    PutNumber(out->head(), 1, t.table);
    out->PutPayload(2, t.keys.bytes());
  }
}

void Put(Writer* out, const PushRequest& m) {
  std::string* head = out->head();
  PutStamp(head, 1, m.stamp);
  PutNumber(head, 2, m.sequence);
  PutNumber(head, 3, m.oldest_unacked);
  PutNumber(head, 4, ZigZag(m.clock));
  const uint64_t weight = std::bit_cast<uint64_t>(m.weight);
  if (weight != 0) {
    PutVarint(head, 5 << 3 | 1);
    head->append(reinterpret_cast<const char*>(&weight), sizeof weight);
  }
  PutNumber(head, 6, m.part);
  PutNumber(head, 7, m.parts);
  PutNumber(head, 8, static_cast<uint64_t>(m.value_type));
  for (const TableGradients& t : m.tables) {
    PutLength(out->head(), 9,
              NumberFieldSize(t.table) + BytesFieldSize(t.keys.bytes().size()) +
                  BytesFieldSize(t.values.size()) + BytesFieldSize(t.counts.bytes().size()));
    PutNumber(out->head(), 1, t.table);
    out->PutPayload(2, t.keys.bytes());
    out->PutPayload(3, t.values);
    out->PutPayload(4, t.counts.bytes());
  }
  PutNumber(out->head(), 10, m.asks);
}

void Put(Writer* out, const ClockRequest& m) {
  PutStamp(out->head(), 1, m.stamp);
  PutNumber(out->head(), 2, m.order);
  std::string body;
  if (m.kind == ClockRequest::Kind::kTick) {
    PutNumber(&body, 1, ZigZag(m.clock));
    for (const ClosedClock& closed : m.closed) {
      std::string fields;
      PutNumber(&fields, 1, ZigZag(closed.clock));
      PutPackedVarints(&fields, 2, closed.contributors);
      PutLength(&body, 2, fields.size());
      body += fields;
    }
  }
  PutLength(out->head(), 3 + static_cast<uint32_t>(m.kind), body.size());
  out->head()->append(body);
}

void Put(Writer* out, const PullResponse& m) {
  PutNumber(out->head(), 1, m.epoch);
  PutNumber(out->head(), 2, ZigZag(m.min_clock));
  PutPackedVarints(out->head(), 3, m.refused_shards);
  for (const TableRows& t : m.tables) {
    PutLength(out->head(), 4, NumberFieldSize(t.table) + BytesFieldSize(t.values.size()));
    PutNumber(out->head(), 1, t.table);
    out->PutPayload(2, t.values);
  }
}

void Put(Writer* out, const PushResponse& m) {
  PutNumber(out->head(), 1, m.epoch);
  PutPackedVarints(out->head(), 2, m.refused_shards);
  PutNumber(out->head(), 3, m.duplicate_rows);
  PutPackedVarints(out->head(), 4, m.contributors);
  PutNumber(out->head(), 5, ZigZag(m.closed));
}

void Put(Writer* out, const ClockResponse& m) {
  PutNumber(out->head(), 1, m.epoch);
  PutNumber(out->head(), 2, ZigZag(m.min_clock));
}

template <typename T>
Pieces Encode(const T& m) {
  Writer out;
  Put(&out, m);
  return out.Take();
}

// A string field must be UTF-8; what a peer put into an error message may be anything.
std::string Printable(absl::string_view s) {
  std::string out(s.data(), s.size());
  for (char& c : out) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return out;
}

Pieces WrapCall(uint64_t call, size_t field, Pieces body) {
  std::string prefix;
  PutNumber(&prefix, 1, call);
  return Wrap(std::move(prefix), static_cast<uint32_t>(field), std::move(body));
}

}  // namespace

Pieces EncodeRequest(const Request& request) {
  return std::visit([](const auto& m) { return Encode(m); }, request);
}

Pieces EncodePush(const PushRequest& request) { return Encode(request); }

Pieces EncodeStreamRequest(uint64_t call, const Request& request) {
  return WrapCall(call, 2 + request.index(), EncodeRequest(request));
}

Pieces EncodeResponse(const Response& response) {
  return std::visit(
      [](const auto& m) {
        if constexpr (std::is_same_v<std::decay_t<decltype(m)>, absl::Status>) {
          return Pieces(1);
        } else {
          return Encode(m);
        }
      },
      response);
}

Pieces EncodeStreamResponse(uint64_t call, const Response& response) {
  if (const auto* status = std::get_if<absl::Status>(&response)) {
    Pieces out(1);
    PutNumber(&out[0].head, 1, call);
    PutNumber(&out[0].head, 2, static_cast<uint64_t>(status->code()));
    PutString(&out[0].head, 3, Printable(status->message()));
    return out;
  }
  return WrapCall(call, 3 + response.index(), EncodeResponse(response));
}

size_t TotalBytes(const Pieces& pieces) {
  size_t total = 0;
  for (const Piece& p : pieces) total += p.head.size() + p.payload.size();
  return total;
}

std::string Flatten(const Pieces& pieces) {
  std::string out;
  out.reserve(TotalBytes(pieces));
  for (const Piece& p : pieces) {
    out += p.head;
    out.append(reinterpret_cast<const char*>(p.payload.data()), p.payload.size());
  }
  return out;
}

}  // namespace tidegate::wire
