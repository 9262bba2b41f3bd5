#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "tests/worker/data/decoder_fixture.h"
#include "worker/data/fields.h"

namespace tidegate {
namespace {

using Keys = std::vector<Key>;

const char* kCsv = R"(data { format: CSV csv { column: ["click", "user", "tags", "price", "w", "q", "t", "buy"] }
    weight: "w" group: "q" timestamp: "t" }
  feature { name: "user" id {} table: "emb" }
  feature { name: "tags" id { multi_valued: true max_values: 2 overlong: KEEP_LAST separator: "^" } table: "emb" }
  feature { name: "few" column: "user" id { hash_buckets: 7 } table: "emb" }
  feature { name: "price" numeric { missing_value: -1 } }
  model { task { name: "a" label: "click" } task { name: "b" label: "buy" } })";

const char* kPairs = R"(data { format: CSV csv { delimiter: "\t" header: false column: ["user", "item"] }
    negatives { column: "item" per_positive: 3 values: 10 exclude_seen_by: "user" } group: "user" }
  feature { name: "user" id {} table: "u" } feature { name: "item" id {} table: "i" }
  model { task { } })";

std::vector<std::string> Split(const std::string& line, char delimiter, std::string* what) {
  CsvSplitter splitter(delimiter, true);
  if (!splitter.Split(line, 100, what)) return {};
  return {splitter.fields().begin(), splitter.fields().end()};
}

class Lines final : public RowStream {
 public:
  explicit Lines(std::vector<std::string> lines) : lines_(std::move(lines)) {}
  absl::StatusOr<bool> Next(Row* row) override {
    if (next_ == lines_.size()) return false;
    *row = Row{};
    row->data = lines_[next_].data();
    row->size = static_cast<uint32_t>(lines_[next_].size());
    row->position = next_++;
    return true;
  }
  absl::StatusOr<uint64_t> Skip(uint64_t) override { return 0; }
  std::string NameOf(uint32_t) const override { return "lines"; }

 private:
  std::vector<std::string> lines_;
  size_t next_ = 0;
};

// What a job says at once, with no bad line allowed.
std::string FirstBadLine(const std::string& config, const std::string& line) {
  const auto schema = DataSchema::Compile(ConfigOf(config));
  REQUIRE(schema.ok());
  BadLines bad(0);
  ReadStats stats;
  RowCollector collector(std::make_shared<const DataSchema>(*schema), {}, &bad, &stats);
  Batch batch;
  collector.Prepare(&batch);
  Lines lines({line});
  Row row;
  REQUIRE(*lines.Next(&row));
  return std::string(collector.Add(row, lines, &batch).message());
}

DecoderParts Sampler(const std::vector<std::string>& training, uint64_t seed) {
  const auto schema = DataSchema::Compile(ConfigOf(kPairs));
  REQUIRE(schema.ok());
  Lines lines(training);
  auto seen = SeenPairs::Load(*schema, &lines);
  REQUIRE(seen.ok());
  return {nullptr, std::make_shared<NegativeSampler>(schema->negatives, seed, *seen)};
}

}  // namespace

TEST_CASE("csv fields are quoted as RFC 4180 says") {
  using Fields = std::vector<std::string>;
  std::string what;
  CHECK(Split("a,b,,c", ',', &what) == Fields{"a", "b", "", "c"});
  CHECK(Split("\"a,b\",\"say \"\"hi\"\"\",\"\"", ',', &what) == Fields{"a,b", "say \"hi\"", ""});
  CHECK(Split("5\" disk,x", ',', &what) == Fields{"5\" disk", "x"});
  CHECK(Split("\"\"\"\"", ',', &what) == Fields{"\""});
  CHECK(Split("x\t\"y\"", '\t', &what) == Fields{"x", "y"});
  CHECK(Split(",", ',', &what) == Fields{"", ""});
  for (const char* bad : {"\"a", "a,\"b,c", "\"", "\"\"\""}) {
    INFO(bad);
    CHECK(Split(bad, ',', &what).empty());
    CHECK_THAT(what, Catch::Contains("not closed"));
  }
  CHECK(Split("\"a\"b,c", ',', &what).empty());
  CHECK_THAT(what, Catch::Contains("after its closing quote"));
  CHECK(Split(std::string(200, ','), ',', &what).empty());
  CHECK_THAT(what, Catch::Contains("more than 100"));
}

TEST_CASE("csv columns become keys, numbers, labels, weights, groups and times by name") {
  DecoderFixture f(kCsv);
  REQUIRE(f.Decode("1,u1,a^b^^c,2.5,0.5,q1,1700000000,0"));
  REQUIRE(f.Decode("-1,\"u,2\",,,2,q1,-5,"));
  const Batch& b = f.batch;
  CheckConsistent(f, 2);
  CHECK(b.features[0].keys == Keys{f.KeyOf("user", "u1"), f.KeyOf("user", "u,2")});
  CHECK(b.features[1].keys ==
        Keys{f.KeyOf("tags", "b"), f.KeyOf("tags", "c"), MissingKey(SaltOf("tags"))});
  CHECK(b.features[2].keys == Keys{f.KeyOf("few", "u1") % 7, f.KeyOf("few", "u,2") % 7});
  CHECK(b.numeric[0] == std::vector<float>{2.5, -1});
  CHECK(b.labels[0] == std::vector<float>{1, 0});
  CHECK(b.labels[1][0] == 0);
  CHECK(std::isnan(b.labels[1][1]));
  CHECK(b.sample_weight == std::vector<float>{0.5, 2});
  CHECK(b.timestamp == std::vector<int64_t>{1700000000, -5});
  CHECK(b.group_id[0] == b.group_id[1]);
}

TEST_CASE("bad csv lines say what is wrong and leave the batch as it was") {
  DecoderFixture f(kCsv);
  REQUIRE(f.Decode("1,u1,a,2.5,1,q,1,0"));
  const std::pair<std::string, std::string> bad[] = {
      {"1,u1,a,2.5,1,q,1", "7 columns, not 8"},
      {"1,u1,a,2.5,1,q,1,0,9", "more than 9 columns|9 columns, not 8"},
      {",u1,a,2.5,1,q,1,0", "click"},
      {"2,u1,a,2.5,1,q,1,0", "click: 2 is outside [0, 1]"},
      {"1,u1,a,2.5,1,q,1,1.5", "buy: 1.5 is outside"},
      {"1,u1,a,2.5,-1,q,1,0", "weight: -1 is negative"},
      {"1,u1,a,2.5,1e300,q,1,0", "weight"},
      {"1,u1,a,2.5,,q,1,0", "weight"},
      {"1,u1,a,cheap,1,q,1,0", "price: \"cheap\" is no number"},
      {"1,u1,a,1e300,1,q,1,0", "price: 1e+300 is no float"},
      {"1,u1,a,2.5,1,,1,0", "group: is empty"},
      {"1,u1,a,2.5,1,q,1.5,0", "timestamp: 1.5 is no integer"},
      {"1,\"u1,a,2.5,1,q,1,0", "not closed"},
      {std::string("1,u\0,a,2.5,1,q,1,0", 18), "NUL"}};
  for (const auto& [line, what] : bad) {
    INFO(line);
    CHECK_FALSE(f.Decode(line));
    const size_t bar = what.find('|');
    CHECK((f.what.find(what.substr(0, bar)) != std::string::npos ||
           (bar != std::string::npos && f.what.find(what.substr(bar + 1)) != std::string::npos)));
    CheckConsistent(f, 1);
  }
}

TEST_CASE("a line of more values than max_values is shortened as the feature says, or bad") {
  const std::string config = R"(data { format: CSV csv { column: ["label", "s"] } }
    feature { name: "s" id { multi_valued: true max_values: 2 overlong: POLICY } table: "t" }
    model { task { } })";
  const auto with = [&](const std::string& policy) {
    std::string text = config;
    return text.replace(text.find("POLICY"), 6, policy);
  };
  DecoderFixture first(with("KEEP_FIRST"));
  REQUIRE(first.Decode("1,a|b|c"));
  CHECK(first.batch.features[0].keys == Keys{first.KeyOf("s", "a"), first.KeyOf("s", "b")});
  DecoderFixture last(with("KEEP_LAST"));
  REQUIRE(last.Decode("1,x"));
  REQUIRE(last.Decode("1,a|b|c"));
  CHECK(last.batch.features[0].keys ==
        Keys{last.KeyOf("s", "x"), last.KeyOf("s", "b"), last.KeyOf("s", "c")});
  DecoderFixture refuse(with("REFUSE"));
  REQUIRE(refuse.Decode("1,a|b"));
  CHECK_FALSE(refuse.Decode("1,a|b|c"));
  CHECK_THAT(refuse.what, Catch::Contains("3 values, more than max_values (2)"));
  CheckConsistent(refuse, 1);
}

TEST_CASE("a positive is followed by drawn negatives that its user has not seen") {
  const std::vector<std::string> training = {"7\t1", "7\t2", "7\t3", "8\t4"};
  DecoderFixture f(kPairs, {}, Sampler(training, 5));
  for (int i = 0; i < 50; ++i) REQUIRE(f.Decode("7\t1"));
  const Batch& b = f.batch;
  CheckConsistent(f, 200);
  std::set<Key> seen, drawn;
  for (const char* item : {"1", "2", "3"}) seen.insert(f.KeyOf("item", item));
  for (size_t r = 0; r < b.rows; ++r) {
    CHECK(b.features[0].keys[r] == f.KeyOf("user", "7"));
    CHECK(b.group_id[r] == b.group_id[0]);
    CHECK(b.labels[0][r] == (r % 4 == 0 ? 1 : 0));
    if (r % 4 != 0) drawn.insert(b.features[1].keys[r]);
  }
  CHECK(drawn.size() == 7);  // of the ten values, all but the three
  for (const Key key : drawn) CHECK(seen.count(key) == 0);
  CHECK(std::set<uint64_t>(b.sample_id.begin(), b.sample_id.end()).size() == 200 / 1);
}

TEST_CASE("drawn negatives are a function of seed and sample, whatever was decoded before") {
  const std::vector<std::string> training = {"7\t1"};
  const auto keys = [&](uint64_t seed, uint64_t position) {
    DecoderFixture f(kPairs, {}, Sampler(training, seed));
    std::string line = "7\t1";
    Row row;
    row.data = line.data();
    row.size = static_cast<uint32_t>(line.size());
    for (uint64_t p : {uint64_t{1000}, position}) {
      f.schema->Prepare(&f.batch);
      row.position = p;
      REQUIRE(f.decoder->Decode(row, &f.batch, &f.what));
    }
    return f.batch.features[1].keys;
  };
  CHECK(keys(1, 5) == keys(1, 5));
  std::set<Keys> others;
  for (uint64_t i = 0; i < 10; ++i) {
    others.insert(keys(1, i));
    others.insert(keys(2 + i, 5));
  }
  CHECK(others.size() > 10);
}

TEST_CASE("a user that has seen every value makes a bad line, and its positive goes too") {
  std::vector<std::string> training;
  for (int i = 0; i < 10; ++i) training.push_back("7\t" + std::to_string(i));
  DecoderFixture f(kPairs, {}, Sampler(training, 5));
  CHECK_FALSE(f.Decode("7\t1"));
  CHECK_THAT(f.what, Catch::Contains("seen with nearly every value"));
  CheckConsistent(f, 0);
  CHECK(f.Decode("9\t1"));
}

TEST_CASE("a leave-one-out line is a positive and its given negatives, in one group") {
  DecoderFixture f(R"(data { valid_format: NCF_NEGATIVES group: "user" }
    feature { name: "user" id {} table: "u" } feature { name: "item" id {} table: "i" }
    model { task { } })", {DataConfig::NCF_NEGATIVES, {}, false});
  REQUIRE(f.Decode("(0,25)\t1064\t174"));
  REQUIRE(f.Decode("(1,7)"));
  CheckConsistent(f, 4);
  const Batch& b = f.batch;
  CHECK(b.labels[0] == std::vector<float>{1, 0, 0, 1});
  CHECK(b.features[0].keys[2] == f.KeyOf("user", "0"));
  CHECK(b.features[1].keys == Keys{f.KeyOf("item", "25"), f.KeyOf("item", "1064"),
                                   f.KeyOf("item", "174"), f.KeyOf("item", "7")});
  CHECK(b.group_id[0] == b.group_id[2]);
  CHECK(b.group_id[0] != b.group_id[3]);
  CHECK(std::set<uint64_t>(b.sample_id.begin(), b.sample_id.end()).size() == 4);
  for (const char* bad : {"0,25\t1", "(0,25\t1", "(0;25)\t1", "(,25)\t1", "(0,)\t1", "(0,2,5)\t1",
                          "(0,25)\t\t3", "(0,25)\t3\t", "()", "\t1"}) {
    INFO(bad);
    f.what.clear();
    CHECK_FALSE(f.Decode(bad));
    CHECK_FALSE(f.what.empty());
    CheckConsistent(f, 4);
  }
}

TEST_CASE("where no line is good, a bad column and a bad format are told apart") {
  const std::string column = "the label's column must hold numbers";
  for (const char* label : {"no", "7"}) {
    CHECK_THAT(FirstBadLine(kCsv, std::string(label) + ",u1,a,1,1,q,1,0"), Catch::Contains(column + " from 0 to 1"));
  }
  CHECK_THAT(FirstBadLine(kCsv, "1,u1,a,1,1,q,1,yes"), Catch::Contains(column));
  CHECK_THAT(FirstBadLine(kCsv, "1,u1,a,cheap,1,q,1,0"),
             Catch::Contains("price: \"cheap\" is no number; none of the 1 lines read so far can be used: this column"));
  CHECK_THAT(FirstBadLine(kCsv, "1,u1"), Catch::Contains("is what data.format says (CSV"));
  CHECK_THAT(FirstBadLine("data { format: CRITEO_TSV } model { task { } }", "yes"), Catch::Contains("is what data.format says (CRITEO_TSV"));
}

}  // namespace tidegate
