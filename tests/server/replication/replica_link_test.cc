// Outbox and inbox back to back over a network that loses, doubles, delays and reorders, with streams that break,
// strands that are slow and refuse, and followers that leave the routing and come back.

#include <algorithm>
#include <catch2/catch.hpp>
#include <deque>
#include <map>

#include "common/random.h"
#include "server/replication/inbox.h"
#include "server/replication/outbox.h"

namespace tidegate {
namespace {

constexpr int kStrands = 3;
constexpr uint32_t kLanes = 2;

class World {
 public:
  explicit World(uint64_t seed) : random_(seed), box_(Settings()), inbox_(1), grants_(400) {
    box_.SetRouting(5, 3);
    box_.Connected(0);
  }

  void Run() {
    for (int step = 0; step < 3000; ++step) {
      faults_ = step < 2000;
      Step();
    }
    for (uint32_t lane = 0; lane < kLanes; ++lane) CHECK(acknowledged_[lane] == appended_[lane]);
    CHECK(box_.unacknowledged_records() == 0);
    CHECK(box_.unacknowledged_bytes() == 0);
  }

 private:
  struct Task {
    Inbox::Ticket ticket;
    uint64_t log_start;
  };

  static Outbox::Options Settings() {
    Outbox::Options options;
    options.window_bytes = 40;
    options.resend_ms = 200;
    return options;
  }
  bool Chance(uint64_t one_in) { return random_.Below(one_in) == 0; }
  bool Fault(uint64_t one_in) { return faults_ && Chance(one_in); }

  void Step() {
    now_ += 1 + static_cast<TimeMs>(random_.Below(5));
    if (faults_ && Chance(3)) Append();
    if (Fault(100)) {
      box_.Disconnected();
      if (Chance(2)) requests_.clear();
      if (Chance(2)) answers_.clear();
      box_.Connected(now_);
    }
    if (Fault(400)) Drop();
    while (auto message = box_.Next(now_)) Carry(message->request, &requests_);
    if (!requests_.empty() && !Chance(4)) Receive(Pop(&requests_));
    for (int strand = 0; strand < kStrands; ++strand) {
      while (!queues_[strand].empty() && !Chance(3)) Work(strand);
    }
    while (!answers_.empty() && !Chance(4)) Take(Pop(&answers_));
  }

  void Append() {
    const uint32_t lane = static_cast<uint32_t>(random_.Below(kLanes));
    OutRecord record;
    record.index = ++appended_[lane];
    record.body = wire::SweepRecord{};
    record.bytes = 10;
    // Which strands have something of it.
    strands_of_[{lane, record.index}] = random_.Below(1 << kStrands);
    if (std::exchange(dropped_[lane], false)) log_start_[lane] = record.index;
    box_.Append(lane, std::move(record));
  }
  // One lane's log is dropped, as by a table that the follower is not in.
  void Drop() {
    const uint32_t lane = static_cast<uint32_t>(random_.Below(kLanes));
    box_.SetRouting(5, uint64_t{3} & ~(uint64_t{1} << lane));
    dropped_[lane] = true;
    acknowledged_[lane] = appended_[lane];
  }
  template <typename T>
  void Carry(const T& message, std::deque<T>* queue) {
    if (Fault(20)) return;
    queue->push_back(message);
    if (Fault(20)) queue->push_back(message);
    if (Fault(20)) std::swap(queue->back(), (*queue)[random_.Below(queue->size())]);
  }
  template <typename T>
  T Pop(std::deque<T>* queue) {
    T front = std::move(queue->front());
    queue->pop_front();
    return front;
  }

  void Receive(const wire::ReplicaRequest& request) {
    const auto received = inbox_.Receive(request, {5, true, now_}, &grants_);
    Answer(received.answer);
    if (!received.dispatch) return;
    const uint64_t strands =
        received.ticket.everywhere ? (1 << kStrands) - 1 : strands_of_[{request.lane, request.index}];
    for (int strand = 0; strand < kStrands; ++strand) {
      if ((strands >> strand & 1) != 0) queues_[strand].push_back({received.ticket, request.log_start});
    }
    Answer(inbox_.Dispatched(received.ticket, strands, 5));
  }
  void Work(int strand) {
    const Task task = Pop(&queues_[strand]);
    const StrandLog::Position at = {1, task.ticket.lane, task.ticket.index, task.log_start};
    absl::Status status;
    switch (logs_[strand].Look(at)) {
      case StrandLog::Verdict::kDuplicate:
        break;
      case StrandLog::Verdict::kBlocked:
        status = absl::UnavailableError("blocked");
        break;
      case StrandLog::Verdict::kApply:
        if (Fault(15)) status = absl::UnavailableError("refused");
        if (status.ok()) {
          auto& last = applied_[{strand, at.lane}];
          REQUIRE(last < at.index);  // once, and in order
          last = at.index;
          applied_count_[{at.lane, at.index}] |= uint64_t{1} << strand;
        }
        logs_[strand].Done(at, status.ok());
    }
    Answer(inbox_.Finished(task.ticket, strand, status, {}, 5));
  }
  void Answer(const std::optional<ReplicaResponse>& answer) {
    if (answer) Carry(*answer, &answers_);
  }
  void Take(const ReplicaResponse& response) {
    for (const auto& ack : box_.Take(response, now_).acknowledged) {
      const uint64_t from = std::max(acknowledged_[ack.lane] + 1, log_start_[ack.lane]);
      for (uint64_t index = from; index <= ack.index; ++index) {
        const uint64_t strands = strands_of_[{ack.lane, index}];
        REQUIRE((applied_count_[{ack.lane, index}] & strands) == strands);
      }
      REQUIRE(ack.index > acknowledged_[ack.lane]);
      acknowledged_[ack.lane] = ack.index;
    }
  }

  Random random_;
  Outbox box_;
  Inbox inbox_;
  GivenGrants grants_;
  StrandLog logs_[kStrands];
  std::deque<Task> queues_[kStrands];
  std::deque<wire::ReplicaRequest> requests_;
  std::deque<ReplicaResponse> answers_;
  TimeMs now_ = 0;
  bool faults_ = true;
  uint64_t appended_[kLanes] = {}, acknowledged_[kLanes] = {}, log_start_[kLanes] = {1, 1};
  bool dropped_[kLanes] = {true, true};
  std::map<std::pair<uint32_t, uint64_t>, uint64_t> strands_of_, applied_count_;
  std::map<std::pair<int, uint32_t>, uint64_t> applied_;
};

}  // namespace

TEST_CASE("every strand applies its records once and in order, and what is acknowledged was applied, whatever the network does") {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    INFO("seed " << seed);
    World(seed).Run();
  }
}

}  // namespace tidegate
