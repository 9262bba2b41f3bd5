// Data to score: no labels, weights, groups or timestamps are read.
#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "tests/worker/data/decoder_fixture.h"
#include "tests/worker/data/test_files.h"
#include "worker/data/readers.h"

namespace tidegate {
namespace {

using Keys = std::vector<Key>;

DataSchema::Side WithoutTargets() {
  DataSchema::Side side;
  side.training = false;
  side.targets = false;
  return side;
}

TEST_CASE("without targets a LIBSVM line may lack its label, or have any") {
  DecoderFixture f(R"(data { format: LIBSVM weight: "#2" group: "#3" } feature { name: "a" column: "#1" id {} table: "t" }
    model { task { label: "label" } })", WithoutTargets());
  for (const char* line : {"1 7:1", "? 7:1", "7:1"}) {
    REQUIRE(f.Decode(line));
    CHECK(f.batch.features[0].keys.back() == f.KeyOf("a", "7"));
    CHECK(std::isnan(f.batch.labels[0].back()));
  }
  CHECK_FALSE(f.Decode("? 7"));
  CheckConsistent(f, 3);
  CHECK(f.batch.sample_weight.empty());
  CHECK(f.batch.group_id.empty());
}

TEST_CASE("without targets a LIBFFM line may lack its label, or have any") {
  DecoderFixture f(R"(data { format: LIBFFM } feature { name: "a" column: "#3" id {} table: "t" }
    model { task { label: "label" } })", WithoutTargets());
  for (const char* line : {"1 3:7:1", "? 3:7:1", "3:7:1"}) {
    REQUIRE(f.Decode(line));
    CHECK(f.batch.features[0].keys.back() == f.KeyOf("a", "7"));
    CHECK(std::isnan(f.batch.labels[0].back()));
  }
  CheckConsistent(f, 3);
}

TEST_CASE("without targets a CRITEO_TSV line may lack its first column") {
  DecoderFixture f(R"(data { format: CRITEO_TSV } feature { name: "I1" numeric {} } feature { name: "C26" id {} table: "t" }
    model { task { label: "label" } })", WithoutTargets());
  const std::string features = "5" + std::string(38, '\t') + "z";
  for (const std::string& line : {features, "0\t" + features, "?\t" + features}) {
    REQUIRE(f.Decode(line));
    CHECK(f.batch.numeric[0].back() == 5);
    CHECK(f.batch.features[0].keys.back() == f.KeyOf("C26", "z"));
    CHECK(std::isnan(f.batch.labels[0].back()));
  }
  CHECK_FALSE(f.Decode("0\t0\t" + features));
  CHECK_FALSE(f.Decode(features.substr(2)));
  CheckConsistent(f, 3);
}

TEST_CASE("with targets none of these lines is a row") {
  DecoderFixture libsvm(R"(data { format: LIBSVM } model { task { label: "label" } })");
  CHECK_FALSE(libsvm.Decode("7:1"));
  DecoderFixture libffm(R"(data { format: LIBFFM } model { task { label: "label" } })");
  CHECK_FALSE(libffm.Decode("3:7:1"));
  DecoderFixture criteo(R"(data { format: CRITEO_TSV } model { task { label: "label" } })");
  CHECK_FALSE(criteo.Decode("5" + std::string(38, '\t') + "z"));
}

TEST_CASE("without targets a CSV needs the features' columns only, in any order") {
  const std::string path = WriteFile("to_score.csv", "tag,user\nx,7\n");
  for (const char* columns : {"", R"(csv { column: ["click", "user", "tag", "w"] })"}) {
    const JobConfig job = ConfigOf(std::string(R"(data { format: CSV weight: "w" )") + columns + " valid { files: '" + path + R"(' } }
      feature { name: "user" id {} table: "t" } model { task { label: "click" } })");
    CHECK_FALSE((Readers::Create(job).ok() && *columns == 0));
    auto readers = Readers::Create(job, Readers::Targets::kSkip);
    INFO(readers.status());
    REQUIRE(readers.ok());
    auto source = (*readers)->OpenEval();
    REQUIRE(source.ok());
    Batch batch;
    auto more = (*source)->Next(10, &batch);
    INFO(more.status());
    REQUIRE(more.ok());
    REQUIRE(batch.rows == 1);
    CHECK(batch.features[0].keys == Keys{FeatureKey(SaltOf("user"), "7")});
    CHECK(std::isnan(batch.labels[0][0]));
    CHECK(batch.sample_weight.empty());
  }
}

TEST_CASE("without targets a generated row has no label") {
  const JobConfig job = ConfigOf(R"(data { format: GENERATED valid { rows: 3 } generator { numeric_fields: 1 cardinality: 5 } }
    feature { name: "I1" numeric {} } model { task { label: "label" } task { label: "I1" loss: MSE } })");
  auto readers = Readers::Create(job, Readers::Targets::kSkip);
  INFO(readers.status());
  REQUIRE(readers.ok());
  auto source = (*readers)->OpenEval();
  REQUIRE(source.ok());
  Batch batch;
  REQUIRE((*source)->Next(10, &batch).ok());
  REQUIRE(batch.rows == 3);
  CHECK(std::isnan(batch.labels[0][0]));
  CHECK(std::isnan(batch.labels[1][2]));
}

}  // namespace
}  // namespace tidegate
