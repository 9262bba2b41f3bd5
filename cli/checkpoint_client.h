#pragma once
// A checkpoint as a ParameterClient: evaluation without a cluster. Rows that the checkpoint does not have
// answer as a server would (initialiser, or the table's rule for keys that are not admitted). Decay of L2
// ALL_LAZY since a row's last update is not computed. Thread-safe once loaded; never calls back later than
// the call itself. Pushes are refused.

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/checkpoint/checkpoint_reader.h"
#include "common/file_system.h"
#include "proto/job.pb.h"
#include "server/table/row_layout.h"
#include "worker/client/parameter_client.h"

namespace tidegate::cli {

class CheckpointClient final : public ParameterClient {
 public:
  // Reads and verifies every file. Errors name the file.
  static absl::StatusOr<std::unique_ptr<CheckpointClient>> Load(FileSystem& files, const std::string& directory);

  const JobConfig& job() const { return job_; }
  const CheckpointManifest& manifest() const { return manifest_; }
  uint64_t rows() const;

  void Pull(Clock clock, Clock bound, std::span<const TablePull> tables, PullDone done) override;
  void PullForEvaluation(std::span<const TablePull> tables, PullDone done) override;
  void Push(Clock clock, double weight, std::span<const TablePush> tables, PushDone done) override;
  void EndClock(Clock /*clock*/) override {}

 private:
  struct Table {
    explicit Table(RowLayout row_layout) : layout(std::move(row_layout)) {}
    RowLayout layout;
    absl::flat_hash_map<Key, uint64_t> index;  // row number
    std::vector<float> rows;
  };

  CheckpointClient() = default;
  absl::Status PullTable(const TablePull& pull) const;

  CheckpointManifest manifest_;
  JobConfig job_;
  std::vector<Table> tables_;
};

}  // namespace tidegate::cli
