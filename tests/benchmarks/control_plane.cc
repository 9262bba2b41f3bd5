// What a large cluster costs the scheduler's core: servers and workers that heartbeat, in simulated time, and the
// table after a server's death. No sockets, nothing stored.
//
//   control_plane [SERVERS [WORKERS [SHARDS]]]
//
// {"heartbeats_per_second": ..., "cpu_seconds_per_second": ..., "failover_plan_ms": ..., "failover_ms": ...}
// failover_plan_ms: from the old table to the new one; failover_ms: CPU from the tick that
// finds the death until the table is made, with the answers of those who take over and all heartbeats between.

#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <variant>

#include "common/json.h"
#include "common/logging.h"
#include "scheduler/cluster_state.h"
#include "scheduler/policy/replication.h"

namespace tidegate {
namespace {

constexpr TimeMs kTickMs = 50;
constexpr TimeMs kMeasuredMs = 5000;

double CpuMs() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

struct Cluster {
  Cluster(uint32_t servers, uint32_t workers, uint32_t shards) {
    SchedulerOptions options;
    options.config_fingerprint = 1;
    options.synchronous = false;
    ClusterConfig* cluster = options.job.mutable_cluster();
    cluster->set_servers(servers);
    cluster->set_workers(workers);
    cluster->set_shards(shards);
    cluster->set_replicas(2);
    options.train_splits.resize(2 * workers);
    for (size_t i = 0; i < options.train_splits.size(); ++i) options.train_splits[i].set_end(1 + i);
    core = *ClusterState::Create(options, SchedulerState());
    core->Start(0);
    for (uint32_t i = 0; i < servers + workers; ++i) Join(i < servers ? SERVER : WORKER, i + 1);
    TableSpec table;
    table.set_name("t");
    table.add_parts()->set_dim(8);
    DeclareTablesRequest declare;
    declare.set_incarnation(servers + 1);
    *declare.add_tables() = table;
    Take(core->Handle(now, ++tokens, declare));
    const uint64_t open = core->Durable().command().command().id();
    for (uint32_t server = 1; server <= servers; ++server) {
      HeartbeatRequest done = Beat(server);
      done.add_results()->set_id(open);
      Take(core->Handle(now, ++tokens, done));
    }
    TG_CHECK(core->Durable().phase() == TRAINING);
    for (uint32_t worker = servers + 1; worker <= servers + workers; ++worker) {
      AcquireWorkRequest ask;
      ask.set_incarnation(worker);
      ask.set_live(true);
      Take(core->Handle(now, ++tokens, ask));
    }
    TG_CHECK(core->Durable().current().leases_size() == static_cast<int>(workers));
    // Heartbeats come evenly over the interval.
    for (uint32_t member = 1; member <= servers + workers; ++member) due[now + member % 250].push_back(member);
  }

  void Join(Role role, uint64_t nonce) {
    JoinRequest join;
    join.set_role(role);
    join.set_nonce(nonce);
    join.set_name("member/" + std::to_string(nonce));
    join.set_address("10.0.0.1:" + std::to_string(nonce));
    Take(core->Handle(now, ++tokens, join));
  }
  HeartbeatRequest Beat(Incarnation member) {
    HeartbeatRequest beat;
    beat.set_incarnation(member);
    beat.set_seen_term(1);
    beat.set_routing_epoch(core->Durable().routing().epoch());
    beat.set_worker_set_version(core->Durable().worker_set_version());
    beat.set_last_command(core->Durable().last_command());
    for (const LeaseRecord& lease : core->Durable().current().leases()) {
      if (member <= servers_end || lease.worker() != member) continue;
      beat.add_progress()->set_lease(lease.work().lease());
      beat.mutable_worker_load()->set_samples_total(static_cast<uint64_t>(now));
    }
    return beat;
  }
  void Take(SchedulerEffects effects) {
    for (const SchedulerReply& reply : effects.replies) {
      if (const auto* answer = std::get_if<HeartbeatResponse>(&reply.response)) probe = std::max(probe, answer->probe());
      const auto it = waiting.find(reply.token);
      if (it == waiting.end()) continue;
      if (it->second != silent) due[now + 1].push_back(it->second);
      if (const auto* beat = std::get_if<HeartbeatResponse>(&reply.response)) probe = std::max(probe, beat->probe());
      ++answered;
      waiting.erase(it);
    }
  }
  void RunUntil(TimeMs end, std::map<Incarnation, HeartbeatRequest>& beats) {
    for (; now < end; ++now) {
      if (now % kTickMs == 0) Take(core->Tick(now));
      const auto it = due.find(now);
      if (it == due.end()) continue;
      const std::vector<Incarnation> members = std::move(it->second);
      due.erase(it);
      for (const Incarnation member : members) {
        if (member == silent) continue;
        waiting[++tokens] = member;
        beats[member].set_seen_probe(probe);
        beats[member].set_seen_probe(probe);
        SchedulerEffects effects = core->Handle(now, tokens, beats[member]);
        if (failover_at == 0 && core->Durable().failovers() > 0) failover_at = CpuMs();
        Take(std::move(effects));
      }
    }
  }

  std::unique_ptr<ClusterState> core;
  TimeMs now = 1;
  CallToken tokens = 0;
  Incarnation silent = 0, servers_end = 0;
  uint64_t answered = 0, probe = 0;
  double failover_at = 0;  // CpuMs
  std::map<TimeMs, std::vector<Incarnation>> due;
  std::map<CallToken, Incarnation> waiting;
};

double PlanMs(const RoutingTable& table, uint32_t servers) {
  const double begin = CpuMs();
  ReplicaSets sets = ReplicaSetsOf(table);
  std::vector<ReplicaServer> left;
  std::vector<Member> members;
  for (Incarnation i = 2; i <= servers; ++i) {
    left.push_back({i, "", false, false});
    members.emplace_back().set_incarnation(i);
  }
  ReplicationOptions options;
  options.replicas = 2;
  TG_CHECK(RemoveServers({1}, left, 0, &sets).lost.empty());
  PlanReplicas(left, options, &sets, nullptr);
  const RoutingTable next = NextTable(table, sets, members, 1, 1);
  TG_CHECK(next.primary_size() == table.primary_size());
  return CpuMs() - begin;
}

int Run(uint32_t servers, uint32_t workers, uint32_t shards) {
  Cluster cluster(servers, workers, shards);
  cluster.servers_end = servers;
  std::map<Incarnation, HeartbeatRequest> beats;
  for (Incarnation i = 1; i <= servers + workers; ++i) beats[i] = cluster.Beat(i);
  cluster.RunUntil(1000, beats);
  const uint64_t before = cluster.answered;
  const double begin = CpuMs();
  cluster.RunUntil(1000 + kMeasuredMs, beats);
  const double cpu = (CpuMs() - begin) / kMeasuredMs;
  const double rate = static_cast<double>(cluster.answered - before) * 1000 / kMeasuredMs;

  const double plan = PlanMs(cluster.core->Durable().routing(), servers);
  // The first server falls silent, and a worker says so.
  cluster.silent = 1;
  cluster.RunUntil(cluster.now + 700, beats);
  HeartbeatRequest report = beats[servers + 1];
  report.add_unreachable(1);
  cluster.Take(cluster.core->Handle(cluster.now, ++cluster.tokens, report));
  const double tick = CpuMs();
  cluster.Take(cluster.core->Tick(cluster.now));
  // Who takes over is asked first.
  const TimeMs asked = cluster.now;
  while (cluster.core->Durable().failovers() == 0 && cluster.now < asked + 1000) cluster.RunUntil(cluster.now + 1, beats);
  TG_CHECK(cluster.failover_at > 0);
  const double failover = cluster.failover_at - tick;
  TG_CHECK(cluster.core->Durable().failovers() == 1);
  std::cout << JsonObject()
                   .Integer("servers", servers)
                   .Integer("workers", workers)
                   .Integer("shards", shards)
                   .Number("heartbeats_per_second", rate)
                   .Number("cpu_seconds_per_second", cpu)
                   .Number("failover_plan_ms", plan)
                   .Number("failover_ms", failover)
                   .Integer("failover_simulated_ms", cluster.now - asked)
                   .Build()
            << "\n";
  return 0;
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  const auto argument = [&](int i, uint32_t otherwise) {
    return argc > i ? static_cast<uint32_t>(std::strtoul(argv[i], nullptr, 10)) : otherwise;
  };
  return tidegate::Run(argument(1, 1000), argument(2, 10'000), argument(3, 65'536));
}
