#include "cli/shard_client.h"

#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "cli/status_client.h"
#include "common/rpc/channel.h"
#include "proto/shard_service.grpc.pb.h"

namespace tidegate::cli {
namespace {

constexpr int kTimeoutSeconds = 5;

void SetDeadline(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(kTimeoutSeconds));
  context->set_wait_for_ready(true);
}

absl::Status Named(const std::string& who, const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::DeadlineExceededError(absl::StrCat("no answer from the ", who, " (waited ", kTimeoutSeconds, " s)"));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), absl::StrCat(who, ": ", status.error_message()));
}

}  // namespace

absl::StatusOr<ClusterRouting> FetchRouting(const std::string& scheduler) {
  const auto answer = StatusClient(scheduler).Routing(1000 * kTimeoutSeconds);
  if (!answer.ok()) return answer.status();
  const GetRoutingResponse& response = *answer;
  if (response.tables().empty() || response.routing().epoch() == 0) {
    return absl::FailedPreconditionError("the job has no tables yet: it is still starting");
  }
  return ClusterRouting{response.routing(), {response.tables().begin(), response.tables().end()}};
}

absl::StatusOr<std::vector<float>> PullRow(const std::string& server, TableId table, Key key) {
  auto stub = ShardService::NewStub(MakeControlChannel(server));
  grpc::ClientContext context;
  SetDeadline(&context);
  PullRequest request;
  request.set_mode(EVAL);
  TableKeys* keys = request.add_tables();
  keys->set_table(table);
  keys->set_keys(&key, sizeof(key));
  PullResponse response;
  if (absl::Status s = Named("server at " + server, stub->Pull(&context, request, &response)); !s.ok()) return s;
  if (!response.refused_shards().empty() || response.tables_size() != 1) {
    return absl::UnavailableError(absl::StrCat("the server at ", server, " does not serve the key's shard (any more): try again"));
  }
  std::vector<float> values(response.tables(0).values().size() / sizeof(float));
  std::memcpy(values.data(), response.tables(0).values().data(), values.size() * sizeof(float));
  return values;
}

}  // namespace tidegate::cli
