#pragma once
// Random messages of replication, as generated protobuf.

#include <string>

#include "proto/replica_messages.pb.h"
#include "tests/common/wire/wire_messages.h"

namespace tidegate::wire {

class RandomReplicaMessages {
 public:
  explicit RandomReplicaMessages(uint64_t seed) : messages_(seed) {}

  void Fill(tidegate::ReplicaRequest* m) {
    m->set_generation(messages_.Number());
    m->set_epoch(messages_.Number());
    m->set_sender(messages_.Number());
    m->set_receiver(messages_.Number());
    m->set_sent_ms(messages_.Number() >> 1);
    m->set_lane(static_cast<uint32_t>(messages_.Number()));
    if (Below(8) == 0) {
      m->mutable_keep_alive();
      return;
    }
    m->set_index(messages_.Number() | 1);
    m->set_log_start(Below(3) ? m->index() >> Below(64) : 0);
    switch (Below(5)) {
      case 0: FillFill(m->mutable_fill()); break;
      case 1: {
        auto* sweep = m->mutable_control()->mutable_sweep();
        sweep->set_table(Number32());
        sweep->set_clock(messages_.Signed());
        for (uint64_t n = Below(9); n > 0; --n) sweep->add_shards(Number32());
        break;
      }
      case 2: {
        auto* workers = m->mutable_control()->mutable_workers();
        workers->set_version(messages_.Number());
        workers->set_last_incarnation(messages_.Number());
        for (uint64_t n = Below(9); n > 0; --n) workers->add_live(messages_.Number());
        break;
      }
      case 3: {
        auto* digest = m->mutable_control()->mutable_digest();
        for (uint64_t n = Below(9); n > 0; --n) {
          digest->add_shards(Number32());
          digest->add_digests(messages_.Number());
        }
        break;
      }
      default: FillPush(m->mutable_push());
    }
  }
  uint64_t Below(uint64_t n) { return messages_.random().Below(n); }

 private:
  uint32_t Number32() { return static_cast<uint32_t>(messages_.Number()); }
  void FillPush(tidegate::PushRecord* m) {
    m->set_clock(messages_.Signed());
    m->set_lr_scale(static_cast<float>(Below(5)) / 3);
    uint32_t shard = 0;
    for (uint64_t n = Below(6); n > 0; --n) m->add_skip_shards(shard += 1 + static_cast<uint32_t>(Below(1000)));
    for (uint64_t n = Below(6); n > 0; --n) m->add_ended_shards(shard += 1 + static_cast<uint32_t>(Below(1000)));
    messages_.Fill(m->mutable_push());
  }
  void FillFill(tidegate::FillRecord* m) {
    m->set_shard(Number32());
    if (Below(2)) {
      auto* header = m->mutable_begin();
      header->set_clock(messages_.Signed());
      header->set_highest_clock(messages_.Signed());
      for (uint64_t n = Below(4); n > 0; --n) {
        auto* session = header->add_sessions();
        session->set_incarnation(messages_.Number());
        session->set_floor(messages_.Number());
        session->set_applied(messages_.Number());
      }
    }
    m->set_table(Number32());
    m->set_end(Below(2) == 1);
    m->set_records(messages_.Data(1, Below(900)));
  }

  RandomMessages messages_;
};

}  // namespace tidegate::wire
