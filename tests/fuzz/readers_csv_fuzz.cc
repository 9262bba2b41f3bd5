#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/readers_decoder.h"

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
  fuzzers->emplace_back(config, DecoderParts{nullptr, std::make_shared<NegativeSampler>(negatives, 1, nullptr)});
  return fuzzers;
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* fuzzers = tidegate::Fuzzers();
  for (auto& fuzzer : *fuzzers) fuzzer.Run(data, size);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {"1,u,a|b|c,2.5", "0,\"u,\"\"1\",,1700000000", "1,,x,-1", "(0,25)\t1064\t174\t2791", "(7,1)"};
}
