#pragma once
// The way from a job's config to batches. One per worker process; not thread-safe (a Prefetcher may
// run one of its sources at a time; see there).
//
//   auto readers = Readers::Create(config);
//   staleness > 0, and evaluation:  (*readers)->OpenTrainSplit / OpenEvalSplit, Next(max_rows,
//   &batch) staleness 0:  SyncSource* s = *(*readers)->TrainSteps(epoch); s->SetRange(range);
//   Next(0, &batch)

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/cluster.pb.h"
#include "proto/job.pb.h"
#include "worker/data/bad_lines.h"
#include "worker/data/batch_source.h"
#include "worker/data/generator.h"
#include "worker/data/negatives.h"
#include "worker/data/row_decoder.h"
#include "worker/data/schema.h"
#include "worker/data/sync_source.h"

namespace tidegate {

class Readers {
 public:
  // `config` is resolved, but may lack data.train where only data.valid is read. Opens a file only for the names of CSV columns that the config leaves to it.
  // kSkip: every label is NaN, and the data needs no column for labels, weights, groups and timestamps.
  enum class Targets { kRead, kSkip };
  static absl::StatusOr<std::unique_ptr<Readers>> Create(const JobConfig& config, Targets targets = Targets::kRead);

  // One split of data.train, shuffled within windows by (seed, epoch, split).
  absl::StatusOr<std::unique_ptr<BatchSource>> OpenTrainSplit(const Split& split, uint64_t epoch);
  // One split of data.valid, in file order. With data.full_ranking a positive's row, label above 0.5, is followed by
  // those of its candidates, label 0, over as many batches as they take, and there are no other rows.
  absl::StatusOr<std::unique_ptr<BatchSource>> OpenEvalSplit(const Split& split);

  // Sizes of the files of data.train, as the job was planned with them: a file that differs is refused when it
  // is opened (plain text may have grown, and is read up to the planned size). At staleness 0, before TrainSteps.
  void ExpectTrainFiles(std::vector<uint64_t> bytes) { planned_bytes_ = std::move(bytes); }

  // The epoch's steps at staleness 0. The object stays ours and is kept while the epoch stays the
  // same, so that a range that begins where the last ended costs nothing.
  absl::StatusOr<SyncSource*> TrainSteps(uint64_t epoch);

  // All rows of data.train (shuffled by windows) or data.valid (file order), in this one process.
  absl::StatusOr<std::unique_ptr<BatchSource>> OpenTrain(uint64_t epoch);
  absl::StatusOr<std::unique_ptr<BatchSource>> OpenEval();

  bool full_ranking() const { return valid_.schema->ranking.item != DataSchema::kNoColumn; }
  const DataSchema& schema() const { return *train_.schema; }  // of data.train
  BadLines& bad_lines() { return bad_lines_; }
  const ReadStats& read_stats() const { return read_stats_; }

 private:
  // What belongs to data.train or data.valid.
  struct Side {
    const Source* source = nullptr;  // of config_
    std::shared_ptr<const DataSchema> schema;
    bool generated() const { return schema->format == DataConfig::GENERATED; }
  };
  Readers(const JobConfig& config, Targets targets);
  absl::StatusOr<Side> MakeSide(const Source& source, DataConfig::Format format, bool training) const;
  absl::StatusOr<std::unique_ptr<RowStream>> AllRows(const Side& side, const std::vector<uint64_t>& planned_bytes = {}) const;
  absl::StatusOr<std::unique_ptr<RowStream>> SplitRows(const Side& side, const Split& split) const;
  absl::StatusOr<std::unique_ptr<RowCollector>> NewCollector(const Side& side, uint64_t epoch);
  absl::StatusOr<std::unique_ptr<RowCollector>> NewEvalCollector();
  absl::Status LoadCandidates();

  const JobConfig config_;
  const Targets targets_;
  Side train_, valid_;
  std::shared_ptr<const Generator> generator_;  // GENERATED
  std::shared_ptr<const SeenPairs> seen_;       // once it is needed
  std::shared_ptr<const Candidates> candidates_;  // once it is needed
  BadLines bad_lines_;
  ReadStats read_stats_;
  std::unique_ptr<SyncSource> sync_;
  uint64_t sync_epoch_ = 0;
  std::vector<uint64_t> planned_bytes_;  // empty: not known
};

}  // namespace tidegate
