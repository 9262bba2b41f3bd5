// What people and tools are told: GetStatus.
#include <algorithm>
#include <string>

#include "scheduler/cluster_state.h"

namespace tidegate {
namespace {

std::string StateOf(const MemberRecord& record, bool drained, bool live, bool asked) {
  if (record.state() == MemberRecord::DEAD) return "dead";
  if (record.state() == MemberRecord::LEFT) return "left";
  if (record.member().role() == SERVER) return drained ? "drained" : record.draining() ? "draining" : "live";
  if (!asked) return "joining";
  return live ? "live" : "parked";
}

}  // namespace

uint64_t ClusterState::SamplesSoFar() const {
  uint64_t samples = 0;
  for (const EpochResult& result : state_.results()) samples += result.samples();
  const int closed = state_.results_size();
  if (closed > 0 && state_.results(closed - 1).epoch() == state_.epoch()) return samples;
  samples += state_.current().samples();
  for (const LeaseRecord& lease : state_.current().leases()) samples += lease.progress().samples();
  return samples;
}

double ClusterState::SamplesPerUnit() const {
  if (options_.job.data().format() == DataConfig::GENERATED) return 1;
  if (state_.results().empty()) return 0;
  double units = 0;
  for (const Split& split : options_.train_splits) units += static_cast<double>(split.end() - split.begin());
  return units > 0 ? static_cast<double>(state_.results().rbegin()->samples()) / units : 0;
}

std::string ClusterState::WaitsFor() const {
  const auto missing = [this](Role role, size_t wanted) {
    return std::max<size_t>(1, wanted) - std::min(std::max<size_t>(1, wanted), membership_.CountActive(role));
  };
  const size_t servers = missing(SERVER, options_.job.cluster().servers());
  const size_t workers = missing(WORKER, options_.job.cluster().workers());
  if (servers == 0 && workers == 0) return "waits for the tables";
  std::string out = "waits for ";
  if (servers > 0) out += std::to_string(servers) + (servers == 1 ? " more server" : " more servers");
  if (servers > 0 && workers > 0) out += " and ";
  if (workers > 0) out += std::to_string(workers) + (workers == 1 ? " more worker" : " more workers");
  return out;
}

GetStatusResponse ClusterState::Status(TimeMs now) const {
  GetStatusResponse status;
  status.set_term(state_.term());
  status.set_job(options_.job.name());
  status.set_phase(state_.phase());
  status.set_message(Stands() ? "stands still: `tidegate restore` has it go on, else it fails: " + loss_ : state_.message());
  if (status.message().empty() && !Ended()) status.set_message(state_.phase() == STARTING ? WaitsFor() : TailBound());
  status.set_epoch(state_.epoch());
  status.set_epochs(options_.job.train().epochs());
  status.set_checkpoint(state_.checkpoint());
  FillCheckpointStatus(status.mutable_checkpoints());
  status.set_samples_total(SamplesSoFar());
  *status.mutable_routing() = state_.routing();
  *status.mutable_results() = state_.results();
  *status.mutable_events() = state_.events();

  status.set_seconds(TrainSeconds());
  status.set_clock(HighestClock());
  status.set_learning_rate_factor(LearningRateFactor());
  status.mutable_progressive()->Assign(newest_progressive_.begin(), newest_progressive_.end());
  if (rate_window_.size() >= 2 && state_.phase() == TRAINING) {
    const auto& [from, first] = rate_window_.front();
    const auto& [to, last] = rate_window_.back();
    if (to > from) {
      status.set_samples_per_second(1000.0 * static_cast<double>(last - first) /
                                    static_cast<double>(to - from));
    }
  }

  const bool evaluating = state_.phase() == EVALUATING;
  if (evaluating) {
    status.set_splits_done(evaluation_.done());
    status.set_splits_total(options_.valid_splits.size());
    status.set_progress(evaluation_.queue().DoneShare());
  } else if (options_.synchronous) {
    status.set_splits_done(sync_.StepsDone());
    status.set_splits_total(state_.current().end_known() ? state_.current().end_step()
                                                         : state_.steps_per_epoch());
    status.set_progress(status.splits_total() > 0
                            ? static_cast<double>(status.splits_done()) /
                                  static_cast<double>(status.splits_total())
                            : -1);
  } else {
    status.set_splits_done(static_cast<uint64_t>(state_.current().done_size()));
    status.set_splits_total(options_.train_splits.size());
    status.set_progress(train_.DoneShare(SamplesPerUnit()));
  }

  for (const MemberRecord& record : state_.members()) {
    MemberStatus* member = status.add_members();
    *member->mutable_member() = record.member();
    const Incarnation incarnation = record.member().incarnation();
    member->set_alive(record.state() == MemberRecord::ACTIVE);
    if (member->alive()) {
      member->set_silent_ms(static_cast<uint32_t>(detector_.SilentMs(incarnation, now)));
    }
    const auto soft = soft_.find(incarnation);
    const bool known = soft != soft_.end();
    member->set_state(StateOf(record, IsDrained(record), known && soft->second.live, known && soft->second.asked));
    const auto gone = last_loads_.find(incarnation);
    if (!known && gone == last_loads_.end()) continue;
    if (record.member().role() == SERVER) {
      const ServerLoad& load = known ? soft->second.server_load : gone->second.first;
      *member->mutable_server_load() = load;
      for (int i = 0; i < load.staleness_histogram_size(); ++i) {
        while (status.staleness_histogram_size() <= i) status.add_staleness_histogram(0);
        status.set_staleness_histogram(i, status.staleness_histogram(i) + load.staleness_histogram(i));
      }
    } else {
      *member->mutable_worker_load() = known ? soft->second.worker_load : gone->second.second;
    }
  }
  FillReplicaStatus(&status);
  return status;
}

}  // namespace tidegate
