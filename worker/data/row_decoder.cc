#include "worker/data/row_decoder.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "worker/data/decoder_columns.h"

namespace tidegate {
namespace {
// So many lines, all of them bad, are another format and no bad lines.
constexpr uint64_t kWrongFormatLines = 100;
}  // namespace

std::unique_ptr<RowDecoder> MakeRowDecoder(std::shared_ptr<const DataSchema> schema,
                                           DecoderParts parts) {
  if (parts.candidates != nullptr) return NewRankingDecoder(std::move(schema), std::move(parts.candidates));
  switch (schema->format) {
    case DataConfig::LIBSVM:
      return NewLibsvmDecoder(std::move(schema));
    case DataConfig::CRITEO_TSV:
      return NewCriteoDecoder(std::move(schema));
    case DataConfig::LIBFFM:
      return NewLibffmDecoder(std::move(schema));
    case DataConfig::CSV:
    case DataConfig::NPZ:
    case DataConfig::PARQUET:
      return NewCsvDecoder(std::move(schema), std::move(parts.negatives));
    case DataConfig::NCF_NEGATIVES:
      return NewNcfDecoder(std::move(schema));
    default:
      return NewGeneratedDecoder(std::move(schema), std::move(parts.generator));
  }
}

RowCollector::RowCollector(std::shared_ptr<const DataSchema> schema, DecoderParts parts,
                           BadLines* bad_lines, ReadStats* stats)
    : schema_(std::move(schema)),
      decoder_(MakeRowDecoder(schema_, std::move(parts))),
      bad_lines_(bad_lines),
      stats_(stats) {}

absl::Status RowCollector::Add(const Row& row, const RowStream& stream, Batch* batch) {
  stats_->bytes.store(stats_->bytes.load(std::memory_order_relaxed) + row.size + 1,
                      std::memory_order_relaxed);
  if (row.too_long) {
    what_ = "the line is longer than 1 MiB";
  } else if (decoder_->Decode(row, batch, &what_)) {
    ++good_;
    return absl::OkStatus();
  }
  return AddBad(row, stream);
}

std::string RowCollector::FormatProblem() const {
  if (!schema_->csv.names.empty()) {  // what is said of one column leaves the format as it is
    for (const DataSchema::Label& label : schema_->labels) {
      if (!absl::StartsWith(what_, label.name + ": ")) continue;
      return absl::StrCat("can be used: the label's column must hold numbers",
                          label.unit_interval ? " from 0 to 1, as 0 and 1 for no and yes" : "");
    }
    if (absl::EndsWith(what_, " is no number")) {
      return "can be used: this column must hold numbers (a feature of texts has no `numeric`)";
    }
  }
  return absl::StrCat("is what data.format says (", FormatHint(schema_->format), ")");
}

absl::Status RowCollector::AddBad(const Row& row, const RowStream& stream) {
  ++bad_;
  const std::string where =
      row.line > 0 ? absl::StrCat(stream.NameOf(row.source), ":", row.line)
                   : absl::StrCat(stream.NameOf(row.source), ": at byte ", row.position);
  absl::Status s = bad_lines_->Add(where, what_);
  if (good_ == 0 && (!s.ok() || bad_ == kWrongFormatLines)) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", what_, "; none of the ", bad_,
                                                   " lines read so far ", FormatProblem()));
  }
  return s;
}

}  // namespace tidegate
