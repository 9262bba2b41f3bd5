#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/readers_decoder.h"

namespace tidegate {
namespace {

JobConfig Config() {
  JobConfig config;
  config.mutable_data()->set_format(DataConfig::LIBFFM);
  AddFeature("zero", "#0", "t", &config)->mutable_id();
  IdFeature* all = AddFeature("all", "*", "t", &config)->mutable_id();
  all->set_use_values(true);
  all->set_multi_valued(true);
  all->set_max_values(3);
  all->set_overlong(IdFeature::KEEP_LAST);
  AddFeature("two", "#2", nullptr, &config)->mutable_numeric();
  config.mutable_model()->add_task();
  return config;
}

// Without and with a weight, a group and a time.
std::vector<DecoderFuzzer>* Fuzzers() {
  auto* fuzzers = new std::vector<DecoderFuzzer>();
  JobConfig config = Config();
  fuzzers->emplace_back(config);
  config.mutable_data()->set_weight("#1");
  config.mutable_data()->set_group("#0");
  config.mutable_data()->set_timestamp("#3");
  fuzzers->emplace_back(config);
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
  return {"1 0:12:1 1:8:0.5 2:4:2.5 3:9:4", "-1 0:7759:0.3651 17:2434:0.44721 # x", "0 1:1:1\t2:2:2  3:3:3"};
}
