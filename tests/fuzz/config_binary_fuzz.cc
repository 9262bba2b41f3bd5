// A serialized config (.pb) from anywhere: an error or a config that its text stands for, never a crash.
#include <string>

#include "common/job_config/binary.h"
#include "common/job_config/job_config.h"
#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/model/graph.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto parsed = tidegate::ParseBinaryJobConfig(std::string(reinterpret_cast<const char*>(data), size));
  if (!parsed.ok()) return 0;
  tidegate::JobConfig& config = *parsed;
  if (!tidegate::ResolveJobConfig(&config).ok()) return 0;
  auto again = tidegate::ParseJobConfig(tidegate::JobConfigText(config), "again");
  TG_CHECK(again.ok()) << again.status().ToString();
  TG_CHECK(tidegate::JobConfigFingerprint(config) == tidegate::JobConfigFingerprint(*again));
  (void)tidegate::PlanGraph(config);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  std::vector<std::string> seeds;
  for (const char* text : {
           R"(name: "a" seed: 7 data { format: CRITEO_TSV train { files: "/t" shuffle_window: 9 } valid { files: "/v" } }
feature { name: "I{1..3}" numeric { transform: LOG2_BUCKET } table: "emb" }
feature { name: "c{1..2}" column: "C{5..6}" id {} table: "emb" }
table { name: "emb" part { name: "w" dim: 1 ftrl { l1: 1 } } part { name: "v" dim: 4 adam {} } }
model { block { name: "l" sum { in: "emb.w" } } block { name: "f" fm { in: "emb.v" } }
  block { name: "z" add { in: ["l", "f"] } } task { logit: "z" } } train { staleness: "4" plateau {} stop {} })",
           R"(data { format: GENERATED train { rows: 9 } generator { cardinality: [3, 4] numeric_fields: 1 } }
feature { name: "C{1..2}" table: "t" } feature { name: "I1" numeric {} } table { name: "t" part { name: "w" dim: 2 sgd {} } }
model { preset { kind: DEEPFM wide: "t.w" deep: "t.w" numeric: "I1" units: [3] } })"}) {
    auto config = tidegate::ParseJobConfig(text, "seed");
    TG_CHECK(config.ok()) << config.status().ToString();
    seeds.push_back(config->SerializeAsString());
  }
  return seeds;
}
