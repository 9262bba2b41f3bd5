#pragma once
// A worker: the tracker and the agent as they are, and between them the steps of a piece of work as
// worker/pipeline does them with threads (pulls as far ahead as the staleness policy lets them, a bounded
// number of pushes in flight, done when every push is acknowledged).

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/random.h"
#include "tests/simulation/sim_member.h"
#include "tests/simulation/sim_server.h"
#include "worker/client/tracker.h"
#include "worker/pipeline/staleness_policy.h"
#include "worker/pipeline/worker_agent.h"

namespace tidegate::simulation {

class SimWorker final : public SimMember {
 public:
  SimWorker(World* world, int id);

  void Boot();
  void Crash();
  // The stream to a server breaks: messages under way are lost on both sides.
  void Disconnect(int server);
  // That stream broke because its process is gone.
  void LosePeer(int server);
  bool ended() const { return ended_; }
  // Pushes that are not acknowledged.
  size_t pushes_in_flight() const { return unacknowledged_.size(); }

 private:
  struct Slot {
    Clock clock = 0;
    bool eval = false;
    RowRange rows;
    bool pulled = false;
    PulledRows pull;
  };
  struct CurrentWork {
    Work work;
    uint64_t run = 0;        // counts works: events of an earlier one are stale
    Clock ticks_left = 0;    // empty pushes before the first step
    uint64_t step = 0;       // next to read
    uint64_t next_row = 0;   // splits
    bool end_of_data = false;
    bool read_all = false;
    Clock first = 0;         // clock of the first step
    Clock next = 0;          // clock of the next slot
    Clock computed = -1;
    bool computing = false;
    std::deque<std::shared_ptr<Slot>> slots;
    WorkDone done;
  };

  void OnJoined() override;
  void OnRouting(const RoutingTable& table) override;
  void OnPhase(Phase phase, const std::string& message) override;
  void OnRejoin() override;
  void FillHeartbeat(HeartbeatRequest* request) override;
  void FillReports(HeartbeatRequest* request) override;

  void BeginWork();  // once routing and tables are there
  void Drive();
  void Acquire();
  void StartWork(const Work& work);
  // The next piece of the work's data; false: there is none.
  bool Read(Slot* slot);
  void Pump();
  void StartPull(const std::shared_ptr<Slot>& slot);
  void Compute(const std::shared_ptr<Slot>& slot);
  void Push(const Slot& slot);
  void FinishWork();
  void Flush();  // the tracker's effects
  void Transmit(const Tracker::Send& send);
  void Completed(const Tracker::Completed& done);
  void OnAcknowledged(Clock clock, uint64_t number, bool dropped);
  void ArmTimer();
  void End(bool failed);

  Random random_;
  StalenessPolicy policy_;
  uint64_t nonce_ = 0;
  bool ended_ = false;
  bool declared_ = false;
  std::shared_ptr<const Routing> routing_;
  std::map<Incarnation, int> server_index_;
  std::map<int, uint64_t> stream_;  // by server: its connection's number
  std::set<Incarnation> unreachable_;
  std::unique_ptr<Tracker> tracker_;
  std::unique_ptr<WorkerAgent> agent_;
  bool acting_ = false;  // the agent's action is under way
  uint64_t clock_call_ = 0;
  std::map<Tracker::CallId, std::shared_ptr<Slot>> pulls_;
  std::map<Tracker::CallId, std::pair<Clock, uint64_t>> pushes_;  // clock, number
  std::map<Clock, uint64_t> unacknowledged_;  // pushes, and their rows
  Clock newest_pushed_ = -1;
  uint64_t samples_ = 0;
  uint64_t issues_ = 0;
  uint64_t numbers_ = 0;
  uint64_t runs_ = 0;
  std::unique_ptr<CurrentWork> work_;
  TimeMs timer_at_ = -1;
};

}  // namespace tidegate::simulation
