#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/readers_decoder.h"

namespace tidegate {
namespace {

JobConfig Config() {
  JobConfig config;
  config.mutable_data()->set_format(DataConfig::CRITEO_TSV);
  AddFeature("C1", "C1", "t", &config)->mutable_id();
  AddFeature("C26", "C26", "t", &config)->mutable_id()->set_missing(IdFeature::SKIP);
  AddFeature("I1", "I1", "t", &config)
      ->mutable_numeric()
      ->set_transform(NumericFeature::LOG2_BUCKET);
  AddFeature("I2", "I2", nullptr, &config)->mutable_numeric()->set_transform(NumericFeature::LOG1P);
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
  const std::string numeric = "\t1\t4\t2\t0\t0\t0\t1\t0\t0\t1\t1\t\t0";
  std::string categories;
  for (int i = 0; i < 26; ++i) categories += i % 5 == 3 ? "\t" : "\t68fd1e64";
  return {"1" + numeric + categories, "0" + std::string(39, '\t'),
          "-1\t-1\t1e9" + std::string(37, '\t') + "\xff\xfe"};
}
