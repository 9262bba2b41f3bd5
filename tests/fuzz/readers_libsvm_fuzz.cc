#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/readers_decoder.h"

namespace tidegate {
namespace {

JobConfig Config() {
  JobConfig config;
  config.mutable_data()->set_format(DataConfig::LIBSVM);
  AddFeature("first", "#1", "t", &config)->mutable_id();
  IdFeature* all = AddFeature("all", "*", "t", &config)->mutable_id();
  all->set_use_values(true);
  all->set_max_values(5);
  AddFeature("third", "#3", "t", &config)
      ->mutable_numeric()
      ->set_transform(NumericFeature::LOG2_BUCKET);
  AddFeature("second", "#2", nullptr, &config)
      ->mutable_numeric()
      ->set_transform(NumericFeature::LOG1P);
  config.mutable_model()->add_task();
  return config;
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static tidegate::DecoderFuzzer* fuzzer = new tidegate::DecoderFuzzer(tidegate::Config());
  fuzzer->Run(data, size);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {"1 581:1 974:1 5042:1 5051:1 5054:1 5055:1", "-1 3:0.25 11:-1e-3 14:123456789012345678",
          "0 1:1\t2:2  3:3 # comment", "+1 a:1 b:.5 c:5."};
}
