#include "worker/data/readers.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "common/strings.h"
#include "worker/data/split_source.h"
#include "worker/data/text_rows.h"

namespace tidegate {
namespace {

std::vector<std::string> FilesOf(const Source& source) {
  return {source.files().begin(), source.files().end()};
}

absl::StatusOr<std::unique_ptr<RowStream>> AllRows(const Source& source, bool generated) {
  if (generated) {
    return std::make_unique<GeneratedRows>(source.first_row(), source.first_row() + source.rows());
  }
  absl::StatusOr<std::vector<std::string>> files = ExpandFiles(FilesOf(source));
  if (!files.ok()) return files.status();
  std::vector<TextRows::Piece> pieces;
  for (size_t i = 0; i < files->size(); ++i) {
    pieces.push_back({static_cast<uint32_t>(i), (*files)[i], 0, LineReader::kToEnd});
  }
  return std::make_unique<TextRows>(std::move(pieces));
}

uint64_t EpochSeed(const JobConfig& config, uint64_t epoch) {
  return RandomBits(RandomBits(config.seed(), 0x73687566666c65ull), epoch);
}

}  // namespace

Readers::Readers(const JobConfig& config, DataSchema schema)
    : config_(config),
      schema_(std::make_shared<const DataSchema>(std::move(schema))),
      bad_lines_(config.data().max_bad_lines()) {}

absl::StatusOr<std::unique_ptr<Readers>> Readers::Create(const JobConfig& config) {
  absl::StatusOr<DataSchema> schema = DataSchema::Compile(config);
  if (!schema.ok()) return schema.status();
  const bool generated = schema->format == DataConfig::GENERATED;
  std::unique_ptr<Readers> readers(new Readers(config, *std::move(schema)));
  if (generated) {
    absl::StatusOr<Generator> generator = Generator::Create(config.data().generator());
    if (!generator.ok()) return generator.status();
    readers->generator_ = std::make_shared<const Generator>(*std::move(generator));
  }
  return readers;
}

std::unique_ptr<RowCollector> Readers::NewCollector() {
  return std::make_unique<RowCollector>(schema_, generator_, &bad_lines_);
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenSplit(const Split& split,
                                                                const Source& source,
                                                                uint64_t shuffle_window,
                                                                uint64_t shuffle_seed) {
  std::unique_ptr<RowStream> rows;
  if (generator_ != nullptr) {
    const uint64_t last = source.first_row() + source.rows();
    if (split.begin() > split.end() || split.begin() < source.first_row() || split.end() > last) {
      return absl::InvalidArgumentError(absl::StrCat("generated split [", split.begin(), ", ",
                                                     split.end(), ") is outside the rows [",
                                                     source.first_row(), ", ", last, ")"));
    }
    rows = std::make_unique<GeneratedRows>(split.begin(), split.end());
  } else {
    if (split.file().empty()) return absl::InvalidArgumentError("split: names no file");
    rows = std::make_unique<TextRows>(
        std::vector<TextRows::Piece>{{split.source(), split.file(), split.begin(), split.end()}});
  }
  return std::make_unique<SplitSource>(std::move(rows), NewCollector(), shuffle_window,
                                       shuffle_seed);
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenTrainSplit(const Split& split,
                                                                     uint64_t epoch) {
  const uint64_t seed =
      RandomBits(EpochSeed(config_, epoch), SampleId(split.source(), split.begin()));
  return OpenSplit(split, config_.data().train(), config_.data().train().shuffle_window(), seed);
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenEvalSplit(const Split& split) {
  return OpenSplit(split, config_.data().valid(), 0, 0);
}

absl::StatusOr<SyncSource*> Readers::TrainSteps(uint64_t epoch) {
  if (sync_ != nullptr && sync_epoch_ == epoch) return sync_.get();
  const Source& source = config_.data().train();
  SyncSource::Options options;
  options.open = [source, generated = generator_ != nullptr] { return AllRows(source, generated); };
  options.collector = NewCollector();
  options.global_batch = config_.train().global_batch();
  options.shuffle_window = source.shuffle_window();
  options.shuffle_seed = EpochSeed(config_, epoch);
  sync_ = std::make_unique<SyncSource>(std::move(options));
  sync_epoch_ = epoch;
  return sync_.get();
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenWhole(const Source& source,
                                                                uint64_t shuffle_window,
                                                                uint64_t shuffle_seed) {
  absl::StatusOr<std::unique_ptr<RowStream>> rows = AllRows(source, generator_ != nullptr);
  if (!rows.ok()) return rows.status();
  return std::make_unique<SplitSource>(*std::move(rows), NewCollector(), shuffle_window,
                                       shuffle_seed);
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenTrain(uint64_t epoch) {
  const Source& source = config_.data().train();
  return OpenWhole(source, source.shuffle_window(), EpochSeed(config_, epoch));
}

absl::StatusOr<std::unique_ptr<BatchSource>> Readers::OpenEval() {
  return OpenWhole(config_.data().valid(), 0, 0);
}

}  // namespace tidegate
