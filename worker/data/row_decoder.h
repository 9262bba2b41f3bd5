#pragma once
// From rows to batch columns. A decoder appends the rows of a line (one, but for negatives) or leaves
// the batch as it was.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "worker/data/bad_lines.h"
#include "worker/data/batch.h"
#include "worker/data/candidates.h"
#include "worker/data/generator.h"
#include "worker/data/negatives.h"
#include "worker/data/read_stats.h"
#include "worker/data/rows.h"
#include "worker/data/schema.h"

namespace tidegate {

class RowDecoder {
 public:
  virtual ~RowDecoder() = default;
  // False: the row is bad, *batch unchanged, *what says why. REQUIRES: schema.Prepare(batch) before
  // the first row.
  virtual bool Decode(const Row& row, Batch* batch, std::string* what) = 0;
  // Appends what is left of the line that Decode() took last, until the batch has `max_rows`. Its text is still valid.
  virtual absl::Status Continue(size_t /*max_rows*/, Batch* /*batch*/) { return absl::OkStatus(); }
};

// What a schema alone does not say; null where it does not apply.
struct DecoderParts {
  std::shared_ptr<const Generator> generator;        // GENERATED
  std::shared_ptr<const NegativeSampler> negatives;  // with schema.negatives
  std::shared_ptr<const Candidates> candidates;      // evaluation with schema.ranking
};
std::unique_ptr<RowDecoder> MakeRowDecoder(std::shared_ptr<const DataSchema> schema,
                                           DecoderParts parts);

// Decodes and counts what is bad. Not thread-safe.
class RowCollector {
 public:
  // `stats` counts what it is given.
  RowCollector(std::shared_ptr<const DataSchema> schema, DecoderParts parts, BadLines* bad_lines,
               ReadStats* stats);

  void Prepare(Batch* batch) const { schema_->Prepare(batch); }
  ReadStats* stats() const { return stats_; }
  size_t rows_per_line() const { return schema_->rows_per_line(); }
  // A bad row is counted and left out; an error once there are too many, or when nothing of what
  // was seen has the format.
  absl::Status Add(const Row& row, const RowStream& stream, Batch* batch);
  absl::Status Continue(size_t max_rows, Batch* batch) { return decoder_->Continue(max_rows, batch); }

 private:
  absl::Status AddBad(const Row& row, const RowStream& stream);
  std::string FormatProblem() const;  // what the lines should be, where none was good

  const std::shared_ptr<const DataSchema> schema_;
  const std::unique_ptr<RowDecoder> decoder_;
  BadLines* const bad_lines_;
  ReadStats* const stats_;
  uint64_t good_ = 0;
  uint64_t bad_ = 0;
  std::string what_;
};

}  // namespace tidegate
