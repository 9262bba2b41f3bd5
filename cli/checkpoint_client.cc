#include "cli/checkpoint_client.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tidegate::cli {

absl::StatusOr<std::unique_ptr<CheckpointClient>> CheckpointClient::Load(FileSystem& files,
                                                                         const std::string& directory) {
  auto reader = CheckpointReader::Open(files, directory);
  if (!reader.ok()) return reader.status();
  std::unique_ptr<CheckpointClient> client(new CheckpointClient);
  client->manifest_ = reader->manifest();
  if (!client->job_.ParseFromString(client->manifest_.job_config())) {
    return absl::DataLossError(absl::StrCat(directory, ": its manifest holds no job config"));
  }
  for (const TableSpec& spec : client->manifest_.tables()) {
    auto layout = RowLayout::Create(spec);
    if (!layout.ok()) return absl::DataLossError(absl::StrCat(directory, ": ", std::string(layout.status().message())));
    client->tables_.emplace_back(*std::move(layout));
  }
  const absl::Status status = reader->VisitAllRows([&](TableId id, Key key, std::span<const float> values) {
    Table& table = client->tables_[id];
    const uint64_t row = table.index.size();
    if (!table.index.emplace(key, row).second) return;
    table.rows.insert(table.rows.end(), values.begin(), values.end());
  });
  if (!status.ok()) return status;
  return client;
}

uint64_t CheckpointClient::rows() const {
  uint64_t rows = 0;
  for (const Table& table : tables_) rows += table.index.size();
  return rows;
}

absl::Status CheckpointClient::PullTable(const TablePull& pull) const {
  if (pull.table >= tables_.size()) return absl::NotFoundError(absl::StrCat("no table ", pull.table));
  const Table& table = tables_[pull.table];
  const RowLayout& layout = table.layout;
  const size_t width = layout.width();
  if (pull.rows.size() != pull.keys.size() * width) {
    return absl::InvalidArgumentError(absl::StrCat("table ", layout.name(), ": ", pull.keys.size(), " keys of ", width,
                                                   " values do not fit ", pull.rows.size()));
  }
  for (size_t i = 0; i < pull.keys.size(); ++i) {
    float* out = pull.rows.data() + i * width;
    const auto it = table.index.find(pull.keys[i]);
    if (it != table.index.end()) {
      std::copy_n(table.rows.data() + it->second * width, width, out);
    } else if (layout.admits_at_once() || layout.unadmitted() == INITIALIZER) {
      layout.InitialValues(pull.keys[i], out);
    } else {
      const bool mark = layout.unadmitted() == FEATURE_OOV;
      std::fill_n(out, width, mark ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
    }
  }
  return absl::OkStatus();
}

void CheckpointClient::Pull(Clock /*clock*/, Clock /*bound*/, std::span<const TablePull> tables, PullDone done) {
  PullForEvaluation(tables, std::move(done));
}

void CheckpointClient::PullForEvaluation(std::span<const TablePull> tables, PullDone done) {
  PullResult result;
  for (const TablePull& pull : tables) {
    result.status = PullTable(pull);
    if (!result.status.ok()) break;
  }
  done(std::move(result));
}

void CheckpointClient::Push(Clock /*clock*/, double /*weight*/, std::span<const TablePush> /*tables*/, PushDone done) {
  done(absl::UnimplementedError("a checkpoint does not take pushes"));
}

}  // namespace tidegate::cli
