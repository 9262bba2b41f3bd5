// Config text from anywhere: an error or a config that resolves to itself, never a crash; a config
// that passes also goes through the model's checks.
#include "common/job_config/job_config.h"
#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/model/graph.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  // The last line is also tried as an override.
  const size_t line = text.rfind('\n');
  const std::vector<std::string> overrides = {text.substr(line == std::string::npos ? 0 : line + 1)};
  (void)tidegate::ParseJobConfig(text.substr(0, line), "fuzz", overrides);
  auto config = tidegate::ParseJobConfig(text, "fuzz");
  if (!config.ok()) return 0;
  auto again = tidegate::ParseJobConfig(tidegate::JobConfigText(*config), "again");
  TG_CHECK(again.ok()) << again.status().ToString();
  TG_CHECK(tidegate::JobConfigFingerprint(*config) == tidegate::JobConfigFingerprint(*again));
  (void)tidegate::PlanGraph(*config);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {
      R"(name: "a" seed: 7
data { format: CRITEO_TSV train { files: "/t" shuffle_window: 9 } valid { files: "/v" } }
feature { name: "I{1..3}" numeric { transform: LOG2_BUCKET } table: "emb" }
feature { name: "c{1..2}" column: "C{5..6}" id {} table: "emb" }
table { name: "emb" part { name: "w" dim: 1 ftrl { l1: 1 } } part { name: "v" dim: 4 adam {} } }
model { block { name: "l" sum { in: "emb.w" } } block { name: "f" fm { in: "emb.v" } }
  block { name: "z" add { in: ["l", "f"] } } task { logit: "z" } }
train { staleness: "4" plateau {} stop {} }
train.epochs=3)",
      R"(data { format: GENERATED train { rows: 9 } generator { cardinality: [3, 4] numeric_fields: 1 } }
feature { name: "C{1..2}" table: "t" } feature { name: "I1" numeric {} }
table { name: "t" part { name: "w" dim: 2 sgd {} } }
model { preset { kind: DEEPFM wide: "t.w" deep: "t.w" numeric: "I1" units: [3] } }
table.t.part.w.sgd.lr=.5)",
      R"(data { format: LIBSVM train { files: "/x" } } feature { name: "a" column: "*"
 id { multi_valued: true } table: "t" } table { name: "t" part { name: "w" dim: 1 adagrad {} } }
model { preset { kind: LR wide: "t.w" } }
model.block=[])"};
}
