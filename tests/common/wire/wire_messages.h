#pragma once
// Random messages for tests of the wire: as generated protobuf, and a comparison with ours.

#include <algorithm>
#include <string>

#include "common/random.h"
#include "common/wire/shard_wire.h"
#include "proto/shard_messages.pb.h"

namespace tidegate::wire {

inline Bytes BytesOf(const std::string& s) { return std::as_bytes(std::span(s.data(), s.size())); }
inline std::string StringOf(Bytes b) {
  return std::string(reinterpret_cast<const char*>(b.data()), b.size());
}

// The bytes, cut in pieces of up to `piece_max` bytes.
inline Fragments InPieces(Bytes bytes, uint64_t piece_max, Random& random) {
  Fragments out;
  while (!bytes.empty()) {
    const size_t piece = std::min<size_t>(bytes.size(), 1 + random.Below(piece_max));
    out.Add(bytes.first(piece));
    bytes = bytes.subspan(piece);
  }
  return out;
}

class RandomMessages {
 public:
  explicit RandomMessages(uint64_t seed) : random_(seed) {}

  uint64_t Number() {
    switch (random_.Below(5)) {
      case 0: return 0;
      case 1: return ~0ull;
      case 2: return random_.Below(128);
      default: return random_() >> random_.Below(64);
    }
  }
  int64_t Signed() { return static_cast<int64_t>(Number()) * (random_.Below(2) ? 1 : -1); }
  std::string Data(size_t unit, size_t count) {
    std::string out(unit * count, '\0');
    for (char& c : out) c = static_cast<char>(random_());
    return out;
  }
  void Fill(tidegate::Stamp* m) {
    m->set_generation(Number());
    m->set_epoch(Number());
    m->set_incarnation(Number() | 1);  // an all-zero stamp is left out by ours
  }
  void Fill(tidegate::PullRequest* m) {
    if (random_.Below(4)) Fill(m->mutable_stamp());
    m->set_clock(Signed());
    m->set_bound(Signed());
    m->set_mode(static_cast<PullMode>(random_.Below(2)));
    m->set_wire_type(static_cast<WireType>(random_.Below(2)));
    for (uint64_t n = random_.Below(7); n > 0; --n) {
      auto* t = m->add_tables();
      t->set_table(static_cast<uint32_t>(Number()));
      t->set_keys(Data(8, random_.Below(40)));
    }
  }
  void Fill(tidegate::PushRequest* m) {
    if (random_.Below(4)) Fill(m->mutable_stamp());
    m->set_sequence(Number());
    m->set_oldest_unacked(Number());
    m->set_clock(Signed());
    m->set_weight(static_cast<double>(Signed()) / 3);
    m->set_part(static_cast<uint32_t>(Number()));
    m->set_parts(static_cast<uint32_t>(Number()) | 1);
    m->set_wire_type(static_cast<WireType>(random_.Below(2)));
    for (uint64_t n = random_.Below(7); n > 0; --n) {
      auto* t = m->add_tables();
      const size_t keys = random_.Below(30);
      t->set_table(static_cast<uint32_t>(Number()));
      t->set_keys(Data(8, keys));
      t->set_values(Data(1, random_.Below(300)));
      if (random_.Below(2)) t->set_counts(Data(4, keys));
    }
  }
  void Fill(tidegate::ClockRequest* m) {
    if (random_.Below(4)) Fill(m->mutable_stamp());
    m->set_order(Number());
    switch (random_.Below(3)) {
      case 0: m->mutable_hello(); break;
      case 1: m->mutable_tick()->set_clock(Signed()); break;
      default: m->mutable_park();
    }
  }
  void Fill(tidegate::PullResponse* m) {
    m->set_epoch(Number());
    m->set_min_clock(Signed());
    for (uint64_t n = random_.Below(5); n > 0; --n) m->add_refused_shards(static_cast<uint32_t>(Number()));
    for (uint64_t n = random_.Below(7); n > 0; --n) {
      auto* t = m->add_tables();
      t->set_table(static_cast<uint32_t>(Number()));
      t->set_values(Data(1, random_.Below(500)));
    }
  }
  void Fill(tidegate::PushResponse* m) {
    m->set_epoch(Number());
    for (uint64_t n = random_.Below(5); n > 0; --n) m->add_refused_shards(static_cast<uint32_t>(Number()));
    m->set_duplicate_rows(Number());
  }
  void Fill(tidegate::ClockResponse* m) {
    m->set_epoch(Number());
    m->set_min_clock(Signed());
  }
  void Fill(tidegate::StreamRequest* m) {
    m->set_call(Number());
    switch (random_.Below(3)) {
      case 0: Fill(m->mutable_pull()); break;
      case 1: Fill(m->mutable_push()); break;
      default: Fill(m->mutable_clock());
    }
  }
  void Fill(tidegate::StreamResponse* m) {
    m->set_call(Number());
    switch (random_.Below(4)) {
      case 0: Fill(m->mutable_pull()); break;
      case 1: Fill(m->mutable_push()); break;
      case 2: Fill(m->mutable_clock()); break;
      default:
        m->set_code(1 + static_cast<uint32_t>(random_.Below(16)));
        m->set_error("what went wrong, at length");
    }
  }
  Random& random() { return random_; }

 private:
  Random random_;
};

}  // namespace tidegate::wire
