#include "worker/data/row_decoder.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "common/stable_hash.h"
#include "tests/worker/data/decoder_fixture.h"
#include "worker/data/decoder_columns.h"
#include "worker/data/schema.h"

namespace tidegate {
namespace {

using Keys = std::vector<Key>;

std::string CriteoLine(const std::string& label, std::vector<std::string> numeric,
                       std::vector<std::string> category) {
  numeric.resize(13);
  category.resize(26);
  std::string line = label;
  for (const std::string& s : numeric) line += "\t" + s;
  for (const std::string& s : category) line += "\t" + s;
  return line;
}

const char* kCriteo = R"(data { format: CRITEO_TSV }
  feature { name: "C1" id {} table: "emb" }
  feature { name: "last" column: "C26" id { missing: SKIP } table: "emb" salt: "shared" }
  feature { name: "I1" numeric {} }
  feature { name: "I2" numeric { transform: LOG1P missing_value: -5 } }
  feature { name: "B" column: "I13" numeric { transform: LOG2_BUCKET } table: "emb" }
  model { task { label: "label" } task { name: "t" label: "I3" } })";

const char* kLibsvm = R"(data { format: LIBSVM }
  feature { name: "user" column: "#1" id {} table: "emb" }
  feature { name: "third" column: "#3" id { use_values: true } table: "emb" }
  feature { name: "all" column: "*" id { use_values: true max_values: 3 } table: "emb" }
  feature { name: "two" column: "#2" numeric { missing_value: 7 } }
  model { task { } })";

}  // namespace

TEST_CASE("a bucket is the number's, however it is written") {
  const std::string config = R"(data { format: CSV csv { column: ["label", "x"] } }
    feature { name: "x" numeric { transform: LOG2_BUCKET } table: "t" } model { task { } })";
  DecoderFixture f(config);
  size_t buckets = 1;
  for (int n = 0; n < 12000; n += n < 300 ? 1 : 7) {
    const std::string text = std::to_string(n);
    REQUIRE(f.Decode("1," + text));
    REQUIRE(f.Decode("1," + text + ".0"));
    const Keys& keys = f.batch.features[0].keys;
    REQUIRE(keys[keys.size() - 2] == keys.back());
    if (keys.size() > 2 && keys[keys.size() - 3] != keys.back()) ++buckets;
  }
  CHECK(buckets == 91);  // SP0, SP1, SP2, and 1 to 88
  REQUIRE(f.Decode("1,0012"));
  REQUIRE(f.Decode("1,12"));
  CHECK(f.batch.features[0].keys.back() == *(f.batch.features[0].keys.end() - 2));
  CHECK_FALSE(f.Decode("1,1x"));
}

TEST_CASE("numbers are read whole and rounded as the compiler rounds them") {
  double x = 0;
  const std::pair<const char*, double> good[] = {
      {"0", 0},
      {"-1", -1},
      {"+1", 1},
      {"12345678901234567890", 12345678901234567890.0},
      {"0.1", 0.1},
      {".5", .5},
      {"5.", 5},
      {"123456.789012345678", 123456.789012345678},
      {"1e3", 1000},
      {"-2E-3", -2e-3},
      {"0.36510000000000000001", 0.36510000000000000001}};
  for (const auto& [text, want] : good) {
    INFO(text);
    CHECK(ParseNumber(text, &x));
    CHECK(x == want);
  }
  for (const char* text : {"", "-", "+", ".", "1x", "x", "--1", "+-1", "nan", "inf", "-inf",
                           "1e999", "0x10", "1 ", " 1", "1e", "1,5"}) {
    INFO(text);
    CHECK_FALSE(ParseNumber(text, &x));
  }
}

TEST_CASE("criteo columns become keys, numbers and labels") {
  DecoderFixture f(kCriteo);
  REQUIRE(f.Decode(
      CriteoLine("1", {"3", "", "1", "", "", "", "", "", "", "", "", "", "100"}, {"68fd1e64"})));
  std::vector<std::string> categories(26);
  categories[25] = "\xff\xfe";  // bytes, whatever they are
  REQUIRE(f.Decode(
      CriteoLine("0", {"-1.5", "3", "", "", "", "", "", "", "", "", "", "", "2"}, categories)));
  const Batch& b = f.batch;
  REQUIRE(b.rows == 2);
  REQUIRE(b.features.size() == 3);
  CHECK(b.features[0].keys == Keys{f.KeyOf("C1", "68fd1e64"), MissingKey(SaltOf("C1"))});
  CHECK(b.features[1].offsets == std::vector<uint32_t>{0, 0, 1});
  CHECK(b.features[1].keys == Keys{f.KeyOf("shared", "\xff\xfe")});
  CHECK(b.features[2].keys == Keys{f.KeyOf("B", "21"), f.KeyOf("B", "SP2")});  // log(100)^2 = 21.2
  CHECK(b.numeric[0] == std::vector<float>{3, -1.5});
  CHECK(b.numeric[1][0] == -5);
  CHECK(b.numeric[1][1] == Approx(std::log(4.0)));
  CHECK(b.labels[0] == std::vector<float>{1, 0});
  CHECK(b.labels[1][0] == 1);
  CHECK(std::isnan(b.labels[1][1]));
  CHECK(b.sample_id[0] != b.sample_id[1]);
}

TEST_CASE("bad criteo lines say what is wrong and leave the batch as it was") {
  DecoderFixture f(kCriteo);
  REQUIRE(f.Decode(CriteoLine("1", {"3"}, {"a"})));
  const std::pair<std::string, std::string> bad[] = {
      {"1\t2\t3", "3 columns"},
      {CriteoLine("1", {}, {}) + "\t", "more than 40"},
      {CriteoLine("", {}, {}), "label"},
      {CriteoLine("2", {}, {}), "outside [0, 1]"},
      {CriteoLine("yes", {}, {}), "\"yes\" is no number"},
      {CriteoLine("1", {"x\x80"}, {"a"}), "I1: \"x\\x80\""},
      {CriteoLine("1", {"", "", "", "", "", "", "", "", "", "", "", "", "1a"}, {"a"}), "B: \"1a\""},
      {CriteoLine("1", {"", "", "nan"}, {"a"}), "I3"},
      {CriteoLine("1", {}, {std::string("a\0b", 3)}), "NUL"},
      {"label index:value", "1 columns"},
  };
  for (const auto& [line, what] : bad) {
    CHECK_FALSE(f.Decode(line));
    CHECK_THAT(f.what, Catch::Contains(what));
    CHECK(f.batch.rows == 1);
    for (const FeatureColumn& c : f.batch.features) {
      CHECK(c.offsets.size() == 2);
      CHECK(c.keys.size() == c.offsets.back());
    }
    for (const auto& n : f.batch.numeric) CHECK(n.size() == 1);
    for (const auto& l : f.batch.labels) CHECK(l.size() == 1);
  }
  CHECK(f.Decode(CriteoLine("-1", {"4"}, {"b"})));
  CHECK(f.batch.labels[0] == std::vector<float>{1, 0});
}

TEST_CASE("libsvm tokens become keys by position or all together") {
  DecoderFixture f(kLibsvm);
  REQUIRE(f.Decode("-1 581:1 974:2.5  5042:0.25 9:1"));
  REQUIRE(f.Decode("1\t7:3 "));
  REQUIRE(f.Decode("1 # nothing:1"));
  const Batch& b = f.batch;
  CHECK(b.labels[0] == std::vector<float>{0, 1, 1});
  CHECK(b.features[0].keys ==
        Keys{f.KeyOf("user", "581"), f.KeyOf("user", "7"), MissingKey(SaltOf("user"))});
  CHECK(b.features[0].weights.empty());
  CHECK(b.features[1].keys[0] == f.KeyOf("third", "5042"));
  CHECK(b.features[1].weights == std::vector<float>{0.25, 1, 1});
  CHECK(b.features[2].offsets == std::vector<uint32_t>{0, 3, 4, 5});
  CHECK(b.features[2].keys[1] == f.KeyOf("all", "974"));
  CHECK(b.features[2].weights == std::vector<float>{1, 2.5, 0.25, 3, 1});
  CHECK(b.numeric[0] == std::vector<float>{2.5, 7, 7});
}

TEST_CASE("bad libsvm lines say what is wrong and leave the batch as it was") {
  DecoderFixture f(kLibsvm);
  REQUIRE(f.Decode("1 1:1"));
  const std::pair<std::string, std::string> bad[] = {{"x 1:1", "label: \"x\""},
                                                     {"3 1:1", "outside [0, 1]"},
                                                     {"   ", "no label"},
                                                     {"1 1:1 5", "token 2: \"5\""},
                                                     {"1 :1", "token 1"},
                                                     {"1 1:", "token 1"},
                                                     {"1 1:2:3", "token 1"},
                                                     {"1 1:nan", "token 1"},
                                                     {std::string("1 1:1\0", 6), "NUL"},
                                                     {"0\t1\t\t68fd1e64", "token 1"}};
  for (const auto& [line, what] : bad) {
    INFO(line);
    CHECK_FALSE(f.Decode(line));
    CHECK_THAT(f.what, Catch::Contains(what));
    CHECK(f.batch.rows == 1);
    for (const FeatureColumn& c : f.batch.features) CHECK(c.keys.size() == c.offsets.back());
    CHECK(f.batch.labels[0].size() == 1);
  }
}

TEST_CASE("a config that does not fit the data's columns is refused by name") {
  const std::pair<const char*, const char*> bad[] = {
      {R"(data { })", "data.format"},
      {R"(data { format: LIBSVM } feature { name: "f" id {} table: "t" })", "\"f\""},
      {R"(data { format: LIBSVM } feature { name: "f" column: "#0" id {} table: "t" })", "#0"},
      {R"(data { format: CRITEO_TSV } feature { name: "C27" id {} table: "t" })", "C1..C26"},
      {R"(data { format: CRITEO_TSV } feature { name: "C1" numeric {} })", "not numeric"},
      {R"(data { format: CRITEO_TSV } feature { name: "C1" id {} })", "needs a table"},
      {R"(data { format: CRITEO_TSV } feature { name: "I1" numeric { transform: LOG2_BUCKET } })",
       "needs a table"},
      {R"(data { format: CRITEO_TSV } feature { name: "I1" numeric {} table: "t" })",
       "LOG2_BUCKET"},
      {R"(data { format: CRITEO_TSV } feature { name: "C1" id { use_values: true } table: "t" })",
       "use_values"},
      {R"(data { format: GENERATED generator { cardinality: 5 } } feature { name: "I1" numeric {} })",
       "label, C1..C1"},
      {R"(data { format: LIBSVM } feature { name: "f" column: "label" numeric {} })", "label"},
      {R"(data { format: LIBSVM } model { task { label: "click" } })", "\"click\""},
  };
  for (const auto& [text, what] : bad) {
    const absl::Status s = DataSchema::Compile(ConfigOf(text)).status();
    INFO(text);
    CHECK(absl::IsInvalidArgument(s));
    CHECK_THAT(std::string(s.message()), Catch::Contains(what));
  }
}

TEST_CASE("features and numbers keep the config's order, tasks share label columns") {
  DecoderFixture f(R"(data { format: CRITEO_TSV }
    feature { name: "I2" numeric {} } feature { name: "C3" id {} table: "a" }
    feature { name: "I1" numeric {} } feature { name: "C1" id {} table: "b" }
    model { task { name: "a" label: "label" } task { name: "b" label: "label" } })");
  REQUIRE(f.schema->features.size() == 2);
  CHECK(f.schema->features[0].name == "C3");
  CHECK(f.schema->numeric[0].name == "I2");
  CHECK(f.schema->labels.size() == 1);
}

}  // namespace tidegate
