#include "scheduler/rpc/scheduler_metrics.h"

#include <optional>
#include <string>

#include "common/status_json.h"

namespace tidegate {

void WriteSchedulerMetrics(SchedulerLoop* loop, MetricsPage* page) {
  const GetStatusResponse status = loop->Status();
  const SchedulerState state = loop->Durable();
  size_t servers = 0, workers = 0;
  for (const MemberStatus& member : status.members()) {
    if (!member.alive()) continue;
    ++(member.member().role() == SERVER ? servers : workers);
  }
  const auto number = [](auto value) { return static_cast<double>(value); };
  page->Gauge("tidegate_members", "Members that are alive.", number(servers), {{"role", "server"}});
  page->Gauge("tidegate_members", "Members that are alive.", number(workers), {{"role", "worker"}});
  for (const MemberStatus& member : status.members()) {
    const std::optional<int64_t> lag = ClockLag(status, member);
    if (!lag) continue;
    page->Gauge("tidegate_worker_lag_clocks", "How far a live worker is behind the one that is furthest.", number(*lag),
                {{"worker", std::to_string(member.member().incarnation())}, {"name", member.member().name()}});
  }
  page->Gauge("tidegate_job_phase",
              "0 starting, 1 training, 2 evaluating, 3 saving, 4 adjusting, 5 finished, 6 failed.",
              number(status.phase()));
  page->Gauge("tidegate_epoch", "The epoch that runs, from 1.", status.epoch());
  page->Gauge("tidegate_epoch_progress_ratio", "Done share of the epoch; -1: not known.",
              status.progress());
  page->Gauge("tidegate_leases", "Training work that is leased to workers.",
              number(state.current().leases_size()));
  page->Gauge("tidegate_splits_done", "Splits (staleness 0: steps) done in this epoch.",
              number(status.splits_done()));
  page->Gauge("tidegate_learning_rate_scale", "Factor of train.plateau on every configured learning rate.",
              state.lr_scale());
  page->Gauge("tidegate_learning_rate_factor", "Factor of train.schedule and train.plateau together.",
              status.learning_rate_factor());
  for (const MetricValue& metric : status.progressive()) {
    page->Gauge("tidegate_progressive", "Metrics of the newest window of the training stream.", metric.value(),
                {{"metric", metric.name()}});
  }
  page->Gauge("tidegate_degraded_shards", "Shards with fewer copies in sync than cluster.replicas.",
              number(status.degraded_shards()));
  page->Counter("tidegate_failovers_total", "Servers that died and whose shards their backups lead since.",
                number(status.failovers_total()));
  page->Gauge("tidegate_lost_shards", "Shards whose last copies died: the job stands still or has failed.",
              number(status.lost_shards_size()));
  page->Counter("tidegate_restores_total", "Times that the job went on from a checkpoint after such a loss.",
                number(status.restores_total()));
  page->Gauge("tidegate_scheduler_term", "Starts of the scheduler in this job, and restores.", number(status.term()));
  page->Gauge("tidegate_checkpoint_number", "Of the newest complete checkpoint; 0: none.",
              number(status.checkpoints().complete_number()));
  page->Gauge("tidegate_checkpoint_saving", "1 while a checkpoint is being made.",
              status.checkpoints().saving() ? 1 : 0);
  page->Counter("tidegate_checkpoint_failures_total",
                "Checkpoints that could not be made (a full disk ...); the job went on.",
                number(status.checkpoints().failures()));
  page->Counter("tidegate_samples_total", "Training samples of finished and running work.",
                number(status.samples_total()));
  page->Counter("tidegate_events_total", "Things that happened: joins, deaths, epochs.",
                number(state.events_total()));
  const SchedulerLoop::Statistics statistics = loop->statistics();
  page->Counter("tidegate_state_writes_total", "Writes of the scheduler's state; changes that come together share one.",
                number(statistics.writes));
  page->Gauge("tidegate_state_bytes", "Size of the scheduler's state, before compression.", number(statistics.state_bytes));
  page->Gauge("tidegate_routing_table_ms", "What the newest routing table took to compute, by the clock.", statistics.table_ms);
  page->Gauge("tidegate_routing_table_cpu_ms", "What it took of a processor.", statistics.table_cpu_ms);
}

}  // namespace tidegate
