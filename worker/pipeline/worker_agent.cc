#include "worker/pipeline/worker_agent.h"

namespace tidegate {

void WorkerAgent::Acquire() {
  action_ = Action();
  action_.what = Do::kAcquire;
  action_.request.set_incarnation(incarnation_);
  action_.request.set_live(live_);
  action_.request.set_clock(clock_);
  action_.request.set_order(++order_);
  for (const WorkDone& done : unreported_) *action_.request.add_done() = done;
}

void WorkerAgent::OnAnswer(const AcquireWorkResponse& answer) {
  if (action_.what != Do::kAcquire) return;  // a late copy of an answered call
  if (answer.rejoin()) return OnFenced();
  unreported_.clear();
  switch (answer.answer_case()) {
    case AcquireWorkResponse::kWork:
      action_ = Action();
      action_.what = Do::kRun;
      action_.work = answer.work();
      return;
    case AcquireWorkResponse::kAnnounce:
      if (live_) return Acquire();  // announced already: say so
      action_ = Action();
      action_.what = Do::kAnnounce;
      return;
    case AcquireWorkResponse::kPark:
      if (!live_) return Acquire();
      action_ = Action();
      action_.what = Do::kPark;
      return;
    case AcquireWorkResponse::kFinish:
      action_ = Action();
      action_.what = Do::kFinish;
      action_.finish = answer.finish();
      return;
    case AcquireWorkResponse::kWait:
    case AcquireWorkResponse::ANSWER_NOT_SET:
      return Acquire();
  }
}

void WorkerAgent::OnAnnounced(Clock clock) {
  if (action_.what != Do::kAnnounce) return;
  live_ = true;
  clock_ = clock;
  Acquire();
}

void WorkerAgent::OnParked() {
  if (action_.what != Do::kPark) return;
  live_ = false;
  Acquire();
}

void WorkerAgent::OnWorkDone(const WorkDone& done, Clock next_clock) {
  if (action_.what != Do::kRun) return;
  clock_ = next_clock;
  unreported_.push_back(done);
  Acquire();
}

void WorkerAgent::OnFenced() {
  action_ = Action();
  action_.what = Do::kRejoin;
  live_ = false;
  unreported_.clear();
}

}  // namespace tidegate
