#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/readers_decoder.h"
#include "worker/data/candidates.h"

namespace tidegate {
namespace {

JobConfig Config(DataConfig::Format format) {
  JobConfig config;
  DataConfig* data = config.mutable_data();
  data->set_format(format);
  for (const char* name : {"label", "user", "item", "x"}) data->mutable_csv()->add_column(name);
  AddFeature("user", "user", "t", &config)->mutable_id()->set_hash_buckets(1000);
  IdFeature* item = AddFeature("item", "item", "t", &config)->mutable_id();
  item->set_multi_valued(true);
  item->set_max_values(2);
  item->set_overlong(IdFeature::KEEP_LAST);
  config.mutable_model()->add_task();
  data->set_group("user");
  if (format != DataConfig::CSV) return config;
  data->set_weight("x");
  data->set_timestamp("x");
  AddFeature("x", "x", nullptr, &config)->mutable_numeric();
  return config;
}

class OneLine final : public RowStream {
 public:
  explicit OneLine(std::string_view line) : line_(line) {}
  absl::StatusOr<bool> Next(Row* row) override {
    *row = {};
    row->data = line_.data();
    row->size = static_cast<uint32_t>(line_.size());
    return !std::exchange(done_, true);
  }
  absl::StatusOr<uint64_t> Skip(uint64_t) override { return 0; }
  std::string NameOf(uint32_t) const override { return "line"; }

 private:
  const std::string_view line_;
  bool done_ = false;
};

// The line as a given item, as one of training and of evaluation, and then ranked among what came of it.
void RunRanking(const JobConfig& config, std::string_view line) {
  const auto schema = DataSchema::Compile(config);
  TG_CHECK(schema.ok()) << schema.status();
  CandidatesBuilder builder(schema->ranking.attributes.size());
  OneLine items(line), training(line), positives(line);
  const absl::Status given = builder.AddItems(',', &items);
  TG_CHECK(given.ok() || absl::IsInvalidArgument(given)) << given;
  TG_CHECK(builder.AddTraining(*schema, &training, {true, false}).ok());
  TG_CHECK(builder.AddPositives(*schema, &positives, true).ok());
  auto candidates = builder.Build();
  if (!candidates.ok()) return;
  DecoderFuzzer fuzzer(config, DecoderParts{nullptr, nullptr, *candidates});
  fuzzer.Run(reinterpret_cast<const uint8_t*>(line.data()), line.size());
}

// CSV and leave-one-out lists, ranked.
std::vector<JobConfig> RankingConfigs() {
  std::vector<JobConfig> configs{Config(DataConfig::CSV), Config(DataConfig::NCF_NEGATIVES)};
  for (JobConfig& config : configs) config.mutable_data()->mutable_full_ranking()->set_column(std::string("item"));
  configs[0].mutable_data()->mutable_full_ranking()->add_attribute(std::string("x"));
  return configs;
}

// CSV with weights; the same with negatives; leave-one-out lists.
std::vector<DecoderFuzzer>* Fuzzers() {
  auto* fuzzers = new std::vector<DecoderFuzzer>();
  JobConfig config = Config(DataConfig::CSV);
  fuzzers->emplace_back(config);
  fuzzers->emplace_back(Config(DataConfig::NCF_NEGATIVES));
  NegativeSampling* n = config.mutable_data()->mutable_negatives();
  n->set_column("x");
  n->set_values(100);
  DataSchema::Negatives negatives;
  negatives.values = 100;
  fuzzers->emplace_back(config, DecoderParts{nullptr, std::make_shared<NegativeSampler>(negatives, 1, nullptr), nullptr});
  return fuzzers;
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* fuzzers = tidegate::Fuzzers();
  for (auto& fuzzer : *fuzzers) fuzzer.Run(data, size);
  static const auto* ranked = new std::vector<tidegate::JobConfig>(tidegate::RankingConfigs());
  for (const auto& config : *ranked) tidegate::RunRanking(config, {reinterpret_cast<const char*>(data), size});
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {"1,u,a|b|c,2.5", "0,\"u,\"\"1\",,1700000000", "1,,x,-1", "(0,25)\t1064\t174\t2791", "(7,1)", "b,2.5"};
}
