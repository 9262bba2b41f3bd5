#pragma once
// What cases of jobs with replicas share: their options, and what they wait for.

#include <set>
#include <string>

#include "absl/status/status.h"
#include "tests/scheduler/cluster_harness.h"

namespace tidegate {

inline HarnessOptions Replicated(uint32_t servers, uint32_t replicas) {
  HarnessOptions options;
  options.servers = servers;
  options.replicas = replicas;
  options.splits = 200;
  options.epochs = 1;
  return options;
}

inline bool Settled(ClusterHarness& cluster) {
  if (!cluster.up() || cluster.stored().phase() == STARTING) return false;
  const GetStatusResponse status = cluster.core().Status(cluster.now());
  return status.settled() && status.degraded_shards() == 0;
}
// All of the first servers live, and the scheduler knows it.
inline bool Complete(ClusterHarness& cluster, uint32_t servers) {
  std::set<Incarnation> living;
  for (uint32_t i = 0; i < servers; ++i) {
    const auto& member = cluster.member(static_cast<int>(i));
    if (!member.dead) living.insert(member.incarnation);
  }
  std::set<Incarnation> named;
  for (const Member& m : cluster.stored().routing().servers()) named.insert(m.incarnation());
  return living.size() == servers && living == named;
}
inline uint32_t Holds(ClusterHarness& cluster, int server) {
  const GetStatusResponse status = cluster.core().Status(cluster.now());
  for (const MemberStatus& m : status.members()) {
    if (m.member().incarnation() == cluster.member(server).incarnation) return m.shards() + m.backups() + m.filling();
  }
  return 0;
}
inline bool Training(ClusterHarness& cluster) { return cluster.stored().phase() == TRAINING; }

template <typename Request>
absl::Status AnswerTo(ClusterHarness& cluster, const Request& request) {
  SchedulerEffects effects = cluster.core().Handle(cluster.now(), 1'000'000'000, request);
  for (const SchedulerReply& reply : effects.replies) {
    if (reply.token == 1'000'000'000) return reply.status;
  }
  return absl::UnknownError("no answer");
}
inline DrainRequest DrainOf(const std::string& server) {
  DrainRequest request;
  request.set_server(server);
  return request;
}

}  // namespace tidegate
