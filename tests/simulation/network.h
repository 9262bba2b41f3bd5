#pragma once
// Messages between processes: delayed, and by each link's own probabilities lost, doubled, and held up so
// that later ones overtake them. Links can be cut for a while. From `quiet_at` on nothing is lost.

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "common/random.h"
#include "tests/simulation/event_loop.h"
#include "tests/simulation/trace.h"

namespace tidegate::simulation {

struct NetworkFaults {
  double drop = 0;       // mean over the links; a link has between 0 and twice as much
  double duplicate = 0;
  double slow = 0;
  TimeMs delay_ms_max = 3;
  TimeMs slow_ms_max = 400;
  TimeMs quiet_at = 0;
};

class Network {
 public:
  Network(EventLoop* loop, uint64_t seed, NetworkFaults faults, Trace* trace)
      : loop_(loop), faults_(faults), link_seed_(Mix64(seed ^ 0x6e6574)), random_(link_seed_), trace_(trace) {}

  // `arrive` runs in the life that `to` has now, once, twice or never.
  void Send(const Process& from, Process* to, const std::function<void()>& arrive) {
    const bool faulty = loop_->now() < faults_.quiet_at;
    const double factor = 2 * ToUnit(RandomBits(link_seed_, static_cast<uint64_t>(from.id() * 1000 + to->id())));
    if (IsCut(from.id(), to->id()) || (faulty && random_.Unit() < faults_.drop * factor)) {
      trace_->Line(loop_->now(), "lost", {{"from", from.id()}, {"to", to->id()}});
      return;
    }
    const int copies = faulty && random_.Unit() < faults_.duplicate * factor ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      TimeMs delay = 1 + static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(faults_.delay_ms_max)));
      if (faulty && random_.Unit() < faults_.slow * factor) {
        delay += static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(faults_.slow_ms_max)));
      }
      to->After(delay, arrive);
    }
  }
  // As a stream does: in order, never twice. A message that is lost breaks it: `lost` runs at the sender.
  void SendInOrder(Process* from, Process* to, std::function<void()> arrive, std::function<void()> lost) {
    const TimeMs now = loop_->now();
    const bool faulty = now < faults_.quiet_at;
    if (!to->up() || IsCut(from->id(), to->id()) || (faulty && random_.Unit() < faults_.drop / 4)) {
      from->After(kBreakMs, std::move(lost));
      return;
    }
    TimeMs delay = 1 + static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(faults_.delay_ms_max)));
    if (faulty && random_.Unit() < faults_.slow / 8) {
      delay += static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(faults_.slow_ms_max)));
    }
    TimeMs& arrived = in_order_[{from->id(), to->id()}];
    arrived = std::max(arrived, now + delay);
    to->After(arrived - now, std::move(arrive));
  }
  // Both ways.
  void Cut(int a, int b, TimeMs until) {
    CutOneWay(a, b, until);
    CutOneWay(b, a, until);
  }
  void CutOneWay(int from, int to, TimeMs until) { cut_[{from, to}] = until; }
  bool IsCut(int from, int to) const {
    auto it = cut_.find({from, to});
    return it != cut_.end() && loop_->now() < it->second;
  }

 private:
  static constexpr TimeMs kBreakMs = 10;

  EventLoop* const loop_;
  const NetworkFaults faults_;
  const uint64_t link_seed_;
  Random random_;
  Trace* const trace_;
  std::map<std::pair<int, int>, TimeMs> cut_;
  std::map<std::pair<int, int>, TimeMs> in_order_;  // when the newest of a stream arrives
};

}  // namespace tidegate::simulation
