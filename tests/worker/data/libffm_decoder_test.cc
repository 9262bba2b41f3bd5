#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "tests/worker/data/decoder_fixture.h"

namespace tidegate {
namespace {

using Keys = std::vector<Key>;

const char* kLibffm = R"(data { format: LIBFFM weight: "#9" }
  feature { name: "one" column: "#0" id {} table: "emb" }
  feature { name: "many" column: "#17" id { multi_valued: true use_values: true } table: "emb" }
  feature { name: "all" column: "*" id { multi_valued: true max_values: 3 overlong: KEEP_LAST } table: "emb" }
  feature { name: "x" column: "#2" numeric { missing_value: 7 } }
  model { task { } task { name: "t" label: "#3" } })";

}  // namespace

TEST_CASE("libffm tokens go to the features of their field") {
  DecoderFixture f(kLibffm);
  REQUIRE(f.Decode("1 0:12:1 17:8:0.5 2:4:2.5 17:9:0.25 9:1:3 3:1:1"));
  REQUIRE(f.Decode("-1\t9:1:0 # 0:1:1"));
  const Batch& b = f.batch;
  CheckConsistent(f, 2);
  CHECK(b.features[0].keys == Keys{f.KeyOf("one", "12"), MissingKey(SaltOf("one"))});
  CHECK(b.features[1].offsets == std::vector<uint32_t>{0, 2, 3});
  CHECK(b.features[1].keys ==
        Keys{f.KeyOf("many", "8"), f.KeyOf("many", "9"), MissingKey(SaltOf("many"))});
  CHECK(b.features[1].weights == std::vector<float>{0.5, 0.25, 1});
  CHECK(b.features[2].keys ==
        Keys{f.KeyOf("all", "9"), f.KeyOf("all", "1"), f.KeyOf("all", "1"), f.KeyOf("all", "1")});
  CHECK(b.numeric[0] == std::vector<float>{2.5, 7});
  CHECK(b.labels[0] == std::vector<float>{1, 0});
  CHECK(b.labels[1][0] == 1);
  CHECK(std::isnan(b.labels[1][1]));
  CHECK(b.sample_weight == std::vector<float>{3, 0});
}

TEST_CASE("bad libffm lines say what is wrong and leave the batch as it was") {
  DecoderFixture f(kLibffm);
  REQUIRE(f.Decode("1 0:12:1 17:8:0.5 9:1:1"));
  const std::pair<std::string, std::string> bad[] = {
      {"x 9:1:1", "label: \"x\""},
      {"3 9:1:1", "outside [0, 1]"},
      {"   ", "no label"},
      {"1 9:1:1 1:1", "token 2: \"1:1\" is not field:index:value"},
      {"1 9:1:1 a:1:1", "token 2"},
      {"1 9:1:1 -1:1:1", "token 2"},
      {"1 9:1:1 1::1", "token 2"},
      {"1 9:1:1 1:1:", "token 2"},
      {"1 9:1:1 1:1:1:1", "token 2"},
      {"1 9:1:1 1:1:nan", "token 2"},
      {"1 9:1:1 99999999999:1:1", "token 2"},
      {"1 9:1:1 0:1:1 0:2:1", "one: field 0 is there twice: say id { multi_valued: true }"},
      {"1 9:1:1 2:1:1 2:2:1", "x: field 2 is there twice"},
      {"1 9:1:1 2:1:1e300", "x: 1e+300 is no float"},
      {"1 9:1:1 17:1:1e300", "many: 1e+300 is no float"},
      {"1 9:1:-1", "weight: -1 is negative"},
      {"1 9:1:1 9:1:1", "weight: field 9 is there twice"},
      {"1 0:1:1", "weight: the line has no such field"},
      {"1 9:1:1 3:1:2", "#3: 2 is outside"},
      {std::string("1 9:1:1\0", 8), "NUL"}};
  for (const auto& [line, what] : bad) {
    INFO(line);
    CHECK_FALSE(f.Decode(line));
    CHECK_THAT(f.what, Catch::Contains(what));
    CheckConsistent(f, 1);
    for (const FeatureColumn& c : f.batch.features) {
      CHECK((c.weights.empty() || c.weights.size() == c.keys.size()));
    }
  }
}

}  // namespace tidegate
