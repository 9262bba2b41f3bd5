#include "worker/data/readers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "common/strings.h"
#include "worker/data/candidates.h"
#include "worker/data/csv_header.h"
#include "worker/data/npz_text.h"
#include "worker/data/parquet_text.h"
#include "worker/data/split_source.h"
#include "worker/data/text_rows.h"

namespace tidegate {
namespace {

absl::StatusOr<std::vector<std::string>> FilesOf(const Source& source) {
  return ExpandFiles({source.files().begin(), source.files().end()});
}

TextRows::CheckHeader HeaderOf(const std::shared_ptr<const DataSchema>& schema) {
  if (schema->format != DataConfig::CSV || !schema->csv.header) return nullptr;
  return [schema](const std::string& file, std::string_view line) {
    return CheckCsvHeader(schema->csv, file, line);
  };
}

// Of what is no text itself.
TextRows::OpenText TextOf(const std::shared_ptr<const DataSchema>& schema) {
  if (schema->format == DataConfig::NPZ) {
    return [schema](const TextRows::Piece& piece) { return OpenNpzText(piece.file, schema->csv.names); };
  }
  if (schema->format == DataConfig::PARQUET) {
    return [schema](const TextRows::Piece& piece) -> absl::StatusOr<std::unique_ptr<ByteReader>> {
      auto program = ParquetProgram();
      if (!program.ok()) return program.status();
      return OpenParquetText(*program, piece.file, schema->csv.names);
    };
  }
  return nullptr;
}

uint64_t EpochSeed(const JobConfig& config, uint64_t epoch) {
  return RandomBits(RandomBits(config.seed(), 0x73687566666c65ull), epoch);
}

}  // namespace

Readers::Readers(const JobConfig& config, Targets targets)
    : config_(config), targets_(targets), bad_lines_(config.data().max_bad_lines()) {}

absl::StatusOr<Readers::Side> Readers::MakeSide(const Source& source, DataConfig::Format format,
                                                bool training) const {
  const CsvFormat& csv = config_.data().csv();
  std::string header_of;  // the file that names the columns
  DataSchema::Side of{format, {}, training, targets_ == Targets::kRead};
  // Without targets the header says which columns are there.
  if (format == DataConfig::CSV && csv.header() && (csv.column().empty() || !of.targets)) {
    auto files = FilesOf(source);
    if (!files.ok()) return files.status();
    auto names = ReadCsvHeader(files->front(), csv.delimiter().empty() ? ',' : csv.delimiter()[0]);
    if (!names.ok()) return names.status();
    of.names = *std::move(names);
    header_of = files->front() + ": ";
  }
  auto schema = DataSchema::Compile(config_, of);
  if (!schema.ok()) return absl::Status(schema.status().code(), absl::StrCat(header_of, schema.status().message()));
  return Side{&source, std::make_shared<const DataSchema>(*std::move(schema))};
}

absl::StatusOr<std::unique_ptr<Readers>> Readers::Create(const JobConfig& config, Targets targets) {
  std::unique_ptr<Readers> readers(new Readers(config, targets));
  const DataConfig& data = readers->config_.data();
  if (data.has_train() || !data.has_valid()) {
    auto train = readers->MakeSide(data.train(), data.format(), true);
    if (!train.ok()) return train.status();
    readers->train_ = *std::move(train);
  }
  readers->valid_ = readers->train_;
  readers->valid_.source = &data.valid();
  if (data.has_valid()) {
    auto valid = readers->MakeSide(
        data.valid(), data.has_valid_format() ? data.valid_format() : data.format(), false);
    if (!valid.ok()) return valid.status();
    readers->valid_ = *std::move(valid);
    if (!data.has_train()) readers->train_ = readers->valid_;
  }
  if (readers->train_.generated() || readers->valid_.generated()) {
    absl::StatusOr<Generator> generator = Generator::Create(data.generator());
    if (!generator.ok()) return generator.status();
    readers->generator_ = std::make_shared<const Generator>(*std::move(generator));
  }
  return readers;
}

absl::StatusOr<std::unique_ptr<RowCollector>> Readers::NewCollector(const Side& side,
                                                                    uint64_t epoch) {
  DecoderParts parts;
  parts.generator = generator_;
  const DataSchema::Negatives& negatives = side.schema->negatives;
  if (negatives.per_positive > 0) {
    if (negatives.seen_by != DataSchema::kNoColumn && seen_ == nullptr) {
      auto rows = AllRows(side);
      if (!rows.ok()) return rows.status();
      auto seen = SeenPairs::Load(*side.schema, rows->get());
      if (!seen.ok()) return seen.status();
      seen_ = *std::move(seen);
    }
    parts.negatives = std::make_shared<const NegativeSampler>(
        negatives, RandomBits(EpochSeed(config_, epoch), 0x6e65676174697665ull), seen_);
  }
  return std::make_unique<RowCollector>(side.schema, std::move(parts), &bad_lines_,
                                        &read_stats_);
}

absl::StatusOr<std::unique_ptr<RowCollector>> Readers::NewEvalCollector() {
  if (!full_ranking()) return NewCollector(valid_, 0);
  if (candidates_ == nullptr) {
    if (absl::Status s = LoadCandidates(); !s.ok()) return s;
  }
  DecoderParts parts;
  parts.candidates = candidates_;
  return std::make_unique<RowCollector>(valid_.schema, std::move(parts), &bad_lines_, &read_stats_);
}

absl::Status Readers::LoadCandidates() {
  const FullRanking& ranking = config_.data().full_ranking();
  CandidatesBuilder builder(static_cast<size_t>(ranking.attribute_size()));
  const bool given = !ranking.files().empty();
  if (given) {
    auto files = ExpandFiles({ranking.files().begin(), ranking.files().end()});
    if (!files.ok()) return files.status();
    std::vector<TextRows::Piece> pieces;
    for (const std::string& file : *files) {
      pieces.push_back({static_cast<uint32_t>(pieces.size()), file, 0, LineReader::kToEnd});
    }
    TextRows rows(std::move(pieces), nullptr, nullptr);
    const std::string& delimiter = config_.data().csv().delimiter();
    if (absl::Status s = builder.AddItems(delimiter.empty() ? ',' : delimiter[0], &rows); !s.ok()) return s;
  }
  if (!given || ranking.exclude_seen()) {
    auto rows = AllRows(train_);
    if (!rows.ok()) return rows.status();
    if (absl::Status s = builder.AddTraining(*train_.schema, rows->get(), {!given, ranking.exclude_seen()}); !s.ok()) return s;
  }
  auto rows = AllRows(valid_);
  if (!rows.ok()) return rows.status();
  if (absl::Status s = builder.AddPositives(*valid_.schema, rows->get(), !given); !s.ok()) return s;
  auto built = builder.Build();
  if (!built.ok()) return built.status();
  candidates_ = *std::move(built);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RowStream>> Readers::AllRows(const Side& side,
                                                            const std::vector<uint64_t>& planned_bytes) const {
  const Source& source = *side.source;
  if (side.generated()) {
    return std::make_unique<GeneratedRows>(source.first_row(), source.first_row() + source.rows());
  }
  auto files = FilesOf(source);
  if (!files.ok()) return files.status();
  if (!planned_bytes.empty() && planned_bytes.size() != files->size()) {
    return absl::FailedPreconditionError(absl::StrCat("data.train.files: ", files->size(), " files here, but the job was planned with ",
                                                      planned_bytes.size()));
  }
  std::vector<TextRows::Piece> pieces;
  for (size_t i = 0; i < files->size(); ++i) {
    const uint64_t end = planned_bytes.empty() ? LineReader::kToEnd : planned_bytes[i];
    pieces.push_back({static_cast<uint32_t>(i), (*files)[i], 0, end});
  }
  return std::make_unique<TextRows>(std::move(pieces), HeaderOf(side.schema), TextOf(side.schema));
}

absl::StatusOr<std::unique_ptr<RowStream>> Readers::SplitRows(const Side& side,
                                                              const Split& split) const {
  const Source& source = *side.source;
  if (side.generated()) {
    const uint64_t last = source.first_row() + source.rows();
    if (split.begin() > split.end() || split.begin() < source.first_row() || split.end() > last) {
      return absl::InvalidArgumentError(absl::StrCat("generated split [", split.begin(), ", ",
                                                     split.end(), ") is outside the rows [",
                                                     source.first_row(), ", ", last, ")"));
    }
    return std::make_unique<GeneratedRows>(split.begin(), split.end());
  }
  if (split.file().empty()) return absl::InvalidArgumentError("split: names no file");
  if (split.sequential()) return TextRows::OfStream(split.source(), split.file());
  return std::make_unique<TextRows>(
      std::vector<TextRows::Piece>{{split.source(), split.file(), split.begin(), split.end()}},
      HeaderOf(side.schema), TextOf(side.schema));
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenTrainSplit(const Split& split,
                                                                     uint64_t epoch) {
  auto collector = NewCollector(train_, epoch);
  if (!collector.ok()) return collector.status();
  auto rows = SplitRows(train_, split);
  if (!rows.ok()) return rows.status();
  const uint64_t seed =
      RandomBits(EpochSeed(config_, epoch), SampleId(split.source(), split.begin()));
  return std::make_unique<SplitSource>(*std::move(rows), *std::move(collector),
                                       train_.source->shuffle_window(), seed);
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenEvalSplit(const Split& split) {
  auto collector = NewEvalCollector();
  if (!collector.ok()) return collector.status();
  auto rows = SplitRows(valid_, split);
  if (!rows.ok()) return rows.status();
  return std::make_unique<SplitSource>(*std::move(rows), *std::move(collector), 0, 0);
}

absl::StatusOr<SyncSource*> Readers::TrainSteps(uint64_t epoch) {
  if (sync_ != nullptr && sync_epoch_ == epoch) return sync_.get();
  auto collector = NewCollector(train_, epoch);
  if (!collector.ok()) return collector.status();
  SyncSource::Options options;
  options.open = [this] { return AllRows(train_, planned_bytes_); };
  options.collector = *std::move(collector);
  // A step's rows are whole lines: with negatives, positives and what was drawn for them.
  options.global_batch =
      std::max<uint64_t>(1, config_.train().global_batch() / train_.schema->rows_per_line());
  options.shuffle_window = train_.source->shuffle_window();
  options.shuffle_seed = EpochSeed(config_, epoch);
  sync_ = std::make_unique<SyncSource>(std::move(options));
  sync_epoch_ = epoch;
  return sync_.get();
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenTrain(uint64_t epoch) {
  auto collector = NewCollector(train_, epoch);
  if (!collector.ok()) return collector.status();
  auto rows = AllRows(train_);
  if (!rows.ok()) return rows.status();
  return std::make_unique<SplitSource>(*std::move(rows), *std::move(collector),
                                       train_.source->shuffle_window(), EpochSeed(config_, epoch));
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenEval() {
  auto collector = NewEvalCollector();
  if (!collector.ok()) return collector.status();
  auto rows = AllRows(valid_);
  if (!rows.ok()) return rows.status();
  return std::make_unique<SplitSource>(*std::move(rows), *std::move(collector), 0, 0);
}

}  // namespace tidegate
