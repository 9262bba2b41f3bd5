// Full ranking: which rows a positive of data.valid becomes.
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/data/decoder_fixture.h"
#include "tests/worker/data/test_files.h"
#include "worker/data/readers.h"

namespace tidegate {
namespace {

struct Files {
  std::string train = "user,item,kind,label\nu1,a,x,1\nu1,b,y,0\nu2,c,x,1\nu2,c,z,1\nbad\nu3,,x,1\n";
  std::string valid = "user,item,kind,label\nu1,c,x,1\nu1,d,y,1\nu2,a,x,0\nu2,b,y,1\n";
  std::string ranking = "column: 'item' attribute: 'kind'";
};

JobConfig JobOf(const Files& files, const std::string& name) {
  return ConfigOf(absl::StrCat(
      "data { format: CSV group: 'user' max_bad_lines: 9 train { files: '", WriteFile("rank_train_" + name, files.train), "' } valid { files: '",
      WriteFile("rank_valid_" + name, files.valid), "' } full_ranking { ", files.ranking, " } } ",
      "feature { name: 'user' table: 't' } feature { name: 'item' table: 't' } feature { name: 'kind' table: 't' } model { task { } }"));
}

// Per positive: its item, "item/kind" of its candidates.
struct Ranked {
  Key positive = 0;
  std::set<std::pair<Key, Key>> candidates;
  uint64_t group = 0;
};

struct Result {
  std::vector<Ranked> ranked;
  size_t largest_batch = 0;
  absl::Status status;
};

Result Drain(const JobConfig& config, size_t max_rows) {
  Result result;
  auto readers = Readers::Create(config);
  REQUIRE(readers.status() == absl::OkStatus());
  auto source = (*readers)->OpenEval();
  if (!source.ok()) return {{}, 0, source.status()};
  Batch batch;
  for (;;) {
    auto more = (*source)->Next(max_rows, &batch);
    result.status = more.status();
    if (!more.ok() || !*more) return result;
    result.largest_batch = std::max(result.largest_batch, batch.rows);
    for (size_t r = 0; r < batch.rows; ++r) {
      const auto key = [&](size_t f) { return batch.features[f].keys[r]; };
      if (batch.labels[0][r] > 0.5f) {
        result.ranked.push_back({key(1), {}, batch.group_id[r]});
      } else {
        CHECK(result.ranked.back().group == batch.group_id[r]);
        CHECK(result.ranked.back().candidates.emplace(key(1), key(2)).second);
      }
    }
  }
}

Key KeyOf(const std::string& feature, const std::string& text) { return FeatureKey(SaltOf(feature), text); }

std::set<std::pair<Key, Key>> Items(const std::vector<std::pair<std::string, std::string>>& items) {
  std::set<std::pair<Key, Key>> keys;
  for (const auto& [item, kind] : items) keys.emplace(KeyOf("item", item), KeyOf("kind", kind));
  return keys;
}

TEST_CASE("a positive is ranked among all items that its user has not, with their own attributes") {
  const JobConfig job = JobOf({}, "plain");
  for (const size_t max_rows : {1, 2, 3, 1000}) {
    INFO(max_rows);
    const Result r = Drain(job, max_rows);
    REQUIRE(r.status == absl::OkStatus());
    CHECK(r.largest_batch <= max_rows);
    REQUIRE(r.ranked.size() == 3);
    CHECK(r.ranked[0].positive == KeyOf("item", "c"));
    CHECK(r.ranked[0].candidates.empty());  // a and b are seen, d is the user's other positive
    CHECK(r.ranked[1].positive == KeyOf("item", "d"));
    CHECK(r.ranked[1].candidates.empty());
    CHECK(r.ranked[2].positive == KeyOf("item", "b"));
    CHECK(r.ranked[2].candidates == Items({{"a", "x"}, {"d", "y"}}));
  }
}

TEST_CASE("exclude_seen: false leaves only the user's positives out") {
  Files files;
  files.ranking += " exclude_seen: false";
  const Result r = Drain(JobOf(files, "all"), 2);
  REQUIRE(r.ranked.size() == 3);
  CHECK(r.ranked[0].candidates == Items({{"a", "x"}, {"b", "y"}}));
  CHECK(r.ranked[2].candidates == Items({{"a", "x"}, {"c", "x"}, {"d", "y"}}));
}

TEST_CASE("a file of items takes the place of the data's, and damaged ones are named") {
  Files files;
  const auto with = [&](const std::string& items) {
    files.ranking = absl::StrCat("column: 'item' attribute: 'kind' files: '", WriteFile("rank_items", items), "'");
    return Drain(JobOf(files, "file"), 10);
  };
  const Result r = with("b,q\nc,q\nnew,\"n,1\"\nb,other\n");
  REQUIRE(r.status == absl::OkStatus());
  REQUIRE(r.ranked.size() == 3);
  CHECK(r.ranked[0].candidates == Items({{"new", "n,1"}}));
  CHECK(r.ranked[2].candidates == Items({{"new", "n,1"}}));
  const std::pair<std::string, std::string> bad[] = {
      {"a,x\nb\n", "rank_items:2: 1 fields, not 2"}, {",x\n", "rank_items:1: the item is empty"}, {"a,\"x\n", "not closed"}, {"", "rank_items: is empty"}};
  for (const auto& [items, message] : bad) {
    INFO(message);
    const absl::Status status = with(items).status;
    CHECK(absl::IsInvalidArgument(status));
    CHECK_THAT(std::string(status.message()), Catch::Contains(message));
  }
}

TEST_CASE("data without an item is refused") {
  Files files;
  files.train = "user,item,kind,label\nbad\n";
  files.valid = "user,item,kind,label\nu1,,x,1\n";
  CHECK_THAT(std::string(Drain(JobOf(files, "none"), 10).status.message()), Catch::Contains("no item to rank among"));
}

TEST_CASE("a candidate whose attribute is no number names the item") {
  JobConfig job = JobOf({}, "number");
  job.mutable_data()->mutable_full_ranking()->add_files(WriteFile("rank_bad_items", "e,1\nf,heavy\n"));
  job.mutable_feature(2)->clear_table();
  job.mutable_feature(2)->mutable_numeric();
  const std::string valid = "user,item,kind,label\nu1,e,2,1\n";
  job.mutable_data()->mutable_valid()->set_files(0, WriteFile("rank_number_valid", valid));
  const absl::Status status = Drain(job, 10).status;
  CHECK_THAT(std::string(status.message()), Catch::Contains("item \"f\": kind: \"heavy\" is no number"));
}

TEST_CASE("lines of data.valid that are bad are counted, with an empty item too") {
  Files files;
  files.valid += "u2,,x,1\nu2,b,y\nu2,b,y,7\n,b,y,1\n";
  JobConfig job = JobOf(files, "bad");
  auto readers = Readers::Create(job);
  REQUIRE(readers.status() == absl::OkStatus());
  auto source = (*readers)->OpenEval();
  REQUIRE(source.status() == absl::OkStatus());
  Batch batch;
  while (*(*source)->Next(2, &batch)) {
  }
  CHECK((*readers)->bad_lines().count() == 4);
}

TEST_CASE("of a leave-one-out line the positive is ranked, and its given negatives are items too") {
  JobConfig job = ConfigOf(absl::StrCat(
      "data { format: CSV csv { delimiter: '\\t' header: false column: ['user', 'item'] } group: 'user' train { files: '",
      WriteFile("rank_pairs", "1\ta\n1\tb\n2\tc\n"), "' } valid_format: NCF_NEGATIVES valid { files: '",
      WriteFile("rank_ncf", "(1,c)\tz\ta\n(2,a)\tb\n"), "' } negatives { column: 'item' per_positive: 1 values: 9 } full_ranking { column: 'item' } } ",
      "feature { name: 'user' table: 't' } feature { name: 'item' table: 't' } feature { name: 'kind' column: 'item' table: 't' } model { task { } }"));
  const Result r = Drain(job, 3);
  REQUIRE(r.status == absl::OkStatus());
  REQUIRE(r.ranked.size() == 2);
  CHECK(r.ranked[0].candidates == Items({{"z", "z"}}));
  CHECK(r.ranked[1].candidates == Items({{"b", "b"}, {"z", "z"}}));
}

}  // namespace
}  // namespace tidegate
