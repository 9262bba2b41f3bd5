#include "worker/data/readers.h"

#include <google/protobuf/text_format.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "tests/worker/data/test_files.h"
#include "worker/data/generator_writer.h"
#include "worker/data/text_rows.h"

namespace tidegate {
namespace {

// What makes a row the same row.
struct Sample {
  uint64_t id;
  float label;
  std::vector<Key> keys;
  bool operator==(const Sample& o) const {
    return id == o.id && label == o.label && keys == o.keys;
  }
  bool operator<(const Sample& o) const { return id < o.id; }
};
using Samples = std::vector<Sample>;

void AppendTo(const Batch& batch, Samples* out) {
  for (size_t r = 0; r < batch.rows; ++r) {
    Sample s{batch.sample_id[r], batch.labels[0][r], {}};
    for (const FeatureColumn& c : batch.features) {
      s.keys.insert(s.keys.end(), c.keys.begin() + c.offsets[r], c.keys.begin() + c.offsets[r + 1]);
    }
    out->push_back(s);
  }
}

Samples Drain(BatchSource* source, size_t max_rows = 7) {
  Samples out;
  Batch batch;
  for (;;) {
    absl::StatusOr<bool> more = source->Next(max_rows, &batch);
    INFO(more.status());
    REQUIRE(more.ok());
    if (!*more) return out;
    REQUIRE(batch.rows <= max_rows);
    AppendTo(batch, &out);
  }
}

std::unique_ptr<Readers> Make(const JobConfig& config) {
  absl::StatusOr<std::unique_ptr<Readers>> readers = Readers::Create(config);
  INFO(readers.status());
  REQUIRE(readers.ok());
  return *std::move(readers);
}

JobConfig Base(const std::string& data) {
  JobConfig config;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(
      "data { " + data + R"( } feature { name: "f" column: ")" +
          (data.find("LIBSVM") != std::string::npos ? "*" : "C1") +
          R"(" id {} table: "t" } model { task {} } train { global_batch: 10 })",
      &config));
  return config;
}

std::string Lines(int begin, int end) {
  std::string text;
  for (int i = begin; i < end; ++i) absl::StrAppend(&text, i % 2, " ", i, ":1 ", i * i, ":1\n");
  return text;
}

// 97 rows in three files, one of them compressed, one empty.
JobConfig TextConfig(int shuffle_window) {
  const std::string a = WriteFile("rows_a.libsvm", Lines(0, 40));
  const std::string b = WriteFile("rows_b.libsvm.gz", Gzip(Lines(40, 75)));
  const std::string c = WriteFile("rows_c.libsvm", "");
  const std::string d = WriteFile("rows_d.libsvm", Lines(75, 97));
  return Base(absl::StrCat("format: LIBSVM train { files: '", a, "' files: '", b, "' files: '", c,
                           "' files: '", d, "' shuffle_window: ", shuffle_window, " }"));
}
JobConfig GeneratedConfig(int shuffle_window) {
  return Base(absl::StrCat("format: GENERATED generator { cardinality: 1000 } ",
                           "train { first_row: 5 rows: 97 shuffle_window: ", shuffle_window, " }"));
}

SyncRange Range(uint64_t first, uint64_t end, uint32_t rank = 0, uint32_t world = 1) {
  SyncRange r;
  r.set_first_step(first);
  r.set_end_step(end);
  r.set_rank(rank);
  r.set_world(world);
  return r;
}

// Slices of all ranks, step by step, put together.
Samples AllRanks(const JobConfig& config, uint32_t world, uint64_t epoch) {
  std::vector<std::unique_ptr<Readers>> readers;
  std::vector<SyncSource*> ranks;
  for (uint32_t r = 0; r < world; ++r) {
    readers.push_back(Make(config));
    ranks.push_back(*readers.back()->TrainSteps(epoch));
    REQUIRE(ranks.back()->SetRange(Range(0, 1000, r, world)).ok());
  }
  Samples out;
  Batch batch;
  for (;;) {
    size_t ended = 0;
    for (SyncSource* s : ranks) {
      absl::StatusOr<bool> more = s->Next(0, &batch);
      REQUIRE(more.ok());
      ended += !*more;
      CHECK(batch.rows <= 10 / world + 1);
      AppendTo(batch, &out);
    }
    if (ended == 0) continue;
    CHECK(ended == world);
    for (SyncSource* s : ranks) {
      CHECK(s->end_of_data());
      CHECK(s->end_of_data_step() == 10);
    }
    return out;
  }
}

}  // namespace

TEST_CASE("at staleness 0 the ranks' slices make the same batches for every number of workers") {
  for (const int window : {0, 25, 1000}) {
    for (const JobConfig& config : {TextConfig(window), GeneratedConfig(window)}) {
      const Samples one = AllRanks(config, 1, 3);
      CHECK(one.size() == 97);
      for (const uint32_t world : {2u, 3u, 8u}) CHECK(AllRanks(config, world, 3) == one);
      const Samples next = AllRanks(config, 1, 4);
      CHECK((next == one) == (window == 0));
      CHECK(std::is_permutation(next.begin(), next.end(), one.begin()));
    }
  }
}

TEST_CASE("a shuffle stays within its window, of whole global batches") {
  const Samples order = AllRanks(GeneratedConfig(0), 1, 0);
  const Samples shuffled = AllRanks(GeneratedConfig(25), 1, 0);  // rounds up to 30
  for (size_t begin = 0; begin < 97; begin += 30) {
    const size_t end = std::min<size_t>(97, begin + 30);
    CHECK(
        std::is_permutation(order.begin() + begin, order.begin() + end, shuffled.begin() + begin));
    CHECK_FALSE(std::equal(order.begin() + begin, order.begin() + end, shuffled.begin() + begin));
  }
}

TEST_CASE("splits give every row once, with the ids that steps give") {
  for (const int window : {0, 11}) {
    const JobConfig config = TextConfig(window);
    const auto readers = Make(config);
    Samples got;
    for (int i = 0; i < config.data().train().files_size(); ++i) {
      const std::string& file = config.data().train().files(i);
      const bool whole = CompressionOf(file) != Compression::kNone;
      const uint64_t bytes = *FileBytes(file);
      for (uint64_t begin = 0; begin < bytes; begin += whole ? bytes : 150) {
        Split split;
        split.set_source(i);
        split.set_file(file);
        split.set_begin(begin);
        split.set_end(whole ? bytes : std::min(bytes, begin + 150));
        for (Sample& s : Drain((*readers->OpenTrainSplit(split, 2)).get())) got.push_back(s);
      }
    }
    Samples want = AllRanks(config, 1, 2);
    std::sort(got.begin(), got.end());
    std::sort(want.begin(), want.end());
    CHECK(got == want);
    CHECK(std::set<Sample>(got.begin(), got.end()).size() == 97);
  }
}

TEST_CASE("generated splits give every row once and refuse rows outside the set") {
  const JobConfig config = GeneratedConfig(8);
  const auto readers = Make(config);
  Samples got;
  Split split;
  for (uint64_t begin = 5; begin < 102; begin += 20) {
    split.set_begin(begin);
    split.set_end(std::min<uint64_t>(102, begin + 20));
    for (Sample& s : Drain((*readers->OpenTrainSplit(split, 2)).get())) got.push_back(s);
  }
  Samples want = AllRanks(config, 1, 2);
  std::sort(got.begin(), got.end());
  std::sort(want.begin(), want.end());
  CHECK(got == want);
  split.set_end(103);
  CHECK(absl::IsInvalidArgument(readers->OpenTrainSplit(split, 0).status()));
}

TEST_CASE("a split's order is a function of seed, epoch and split") {
  JobConfig config = GeneratedConfig(1000);
  Split split;
  split.set_begin(5);
  split.set_end(102);
  const auto order = [&](uint64_t epoch) {
    return Drain((*Make(config)->OpenTrainSplit(split, epoch)).get());
  };
  const Samples first = order(1);
  CHECK(order(1) == first);
  CHECK_FALSE(order(2) == first);
  config.set_seed(99);
  CHECK_FALSE(order(1) == first);
}

TEST_CASE("the last batches of a shuffled split are of even size") {
  JobConfig config = GeneratedConfig(600);
  config.mutable_data()->mutable_train()->set_rows(995);
  auto readers = Make(config);
  Split split;
  split.set_begin(10);
  split.set_end(540);  // fewer rows than the window
  auto source = readers->OpenTrainSplit(split, 1);
  REQUIRE(source.ok());
  Batch batch;
  std::vector<size_t> sizes;
  while (*(*source)->Next(100, &batch)) sizes.push_back(batch.rows);
  CHECK(sizes == std::vector<size_t>{89, 89, 88, 88, 88, 88});
}

TEST_CASE("step ranges may follow each other, leave gaps or go back") {
  for (const int window : {0, 25}) {
    const JobConfig config = TextConfig(window);
    const Samples whole = AllRanks(config, 1, 0);
    const auto readers = Make(config);
    SyncSource* source = *readers->TrainSteps(0);
    for (const auto& [first, end] : std::vector<std::pair<uint64_t, uint64_t>>{{0, 2},
                                                                               {2, 3},
                                                                               {3, 3},
                                                                               {7, 9},
                                                                               {8, 20},
                                                                               {1, 2},
                                                                               {4, 5},
                                                                               {5, 6},
                                                                               {30, 40},
                                                                               {9, 10},
                                                                               {0, 1}}) {
      INFO("steps " << first << " to " << end << ", window " << window);
      REQUIRE(source->SetRange(Range(first, end)).ok());
      const Samples got = Drain(source, 10);
      const size_t from = std::min<size_t>(97, first * 10);
      const size_t to = std::min<size_t>(97, end * 10);
      CHECK(got == Samples(whole.begin() + from, whole.begin() + to));
      CHECK(source->end_of_data() == (end > 10));
    }
    CHECK(*readers->TrainSteps(0) == source);
    CHECK_FALSE(source->SetRange(Range(0, 1, 2, 2)).ok());
    CHECK_FALSE(source->SetRange(Range(3, 1)).ok());
    CHECK_FALSE(source->SetRange(Range(0, 1, 0, 0)).ok());
  }
}

TEST_CASE("at staleness 0 a file that is not of the planned size is refused in the next epoch") {
  const bool gzip = GENERATE(false, true);
  const std::string name = gzip ? "planned.libsvm.gz" : "planned.libsvm";
  const auto write = [&](int lines) { return WriteFile(name, gzip ? Gzip(Lines(0, lines)) : Lines(0, lines)); };
  const std::string file = write(90);
  const auto readers = Make(Base(absl::StrCat("format: LIBSVM train { files: '", file, "' }")));
  readers->ExpectTrainFiles({*FileBytes(file)});
  SyncSource* source = *readers->TrainSteps(1);
  REQUIRE(source->SetRange(Range(0, 100)).ok());
  CHECK(Drain(source, 10).size() == 90);

  write(89);
  Batch batch;
  source = *readers->TrainSteps(2);
  REQUIRE(source->SetRange(Range(0, 100)).ok());
  const absl::Status shrunk = source->Next(10, &batch).status();
  CHECK(absl::IsFailedPrecondition(shrunk));
  CHECK_THAT(std::string(shrunk.message()), Catch::Contains(name) && Catch::Contains("not the file that the job was planned with"));

  write(99);  // plain text may grow: what was planned is read
  source = *readers->TrainSteps(3);
  REQUIRE(source->SetRange(Range(0, 100)).ok());
  if (gzip) {
    CHECK(absl::IsFailedPrecondition(source->Next(10, &batch).status()));
  } else {
    CHECK(Drain(source, 10).size() == 90);
  }
  readers->ExpectTrainFiles({1, 2});
  source = *readers->TrainSteps(4);
  CHECK_THAT(std::string(source->SetRange(Range(0, 1)).message()), Catch::Contains("1 files here"));
}

TEST_CASE("a file that is cut off while it is read is an error") {
  const std::string file = WriteFile("cut.libsvm", Lines(0, 40000));
  const uint64_t bytes = *FileBytes(file);
  const auto readers =
      Make(Base(absl::StrCat("format: LIBSVM max_bad_lines: 1 train { files: '", file, "' }")));  // the last line
  readers->ExpectTrainFiles({bytes});
  SyncSource* source = *readers->TrainSteps(1);
  REQUIRE(source->SetRange(Range(0, 10000)).ok());
  Batch batch;
  REQUIRE(source->Next(10, &batch).ok());
  REQUIRE(truncate(file.c_str(), static_cast<off_t>(bytes - 20)) == 0);
  absl::StatusOr<bool> more = true;
  while (more.ok() && *more) more = source->Next(10, &batch);
  CHECK(absl::IsFailedPrecondition(more.status()));
  CHECK_THAT(std::string(more.status().message()), Catch::Contains("cut.libsvm") && Catch::Contains("was cut off"));
}

TEST_CASE("bad lines are counted with file and line until there are too many") {
  const std::string file = WriteFile("bad.libsvm", "1 1:1\nbroken\n0 2:2\n\n1 3:\n0 4:4\n7 5:5\n");
  JobConfig config =
      Base(absl::StrCat("format: LIBSVM max_bad_lines: 3 train { files: '", file, "' }"));
  const auto readers = Make(config);
  CHECK(Drain((*readers->OpenTrain(0)).get()).size() == 3);
  CHECK(readers->bad_lines().count() == 3);
  REQUIRE(readers->bad_lines().examples().size() == 3);
  CHECK_THAT(readers->bad_lines().examples()[1], Catch::Contains("bad.libsvm:5: token 1"));

  config.mutable_data()->set_max_bad_lines(2);
  Batch batch;
  const absl::Status s = (*Make(config)->OpenTrain(0))->Next(100, &batch).status();
  CHECK(absl::IsInvalidArgument(s));
  CHECK_THAT(std::string(s.message()), Catch::Contains("max_bad_lines (2)"));
  CHECK_THAT(std::string(s.message()), Catch::Contains("bad.libsvm:7: label"));
}

TEST_CASE("in a byte range, a bad line is told by its offset") {
  const std::string file = WriteFile("bad2.libsvm", "1 1:1\n1 1:1\nbroken\n");
  const auto readers =
      Make(Base(absl::StrCat("format: LIBSVM max_bad_lines: 5 train { files: '", file, "' }")));
  Split split;
  split.set_file(file);
  split.set_begin(3);
  split.set_end(19);
  CHECK(Drain((*readers->OpenTrainSplit(split, 0)).get()).size() == 1);
  CHECK_THAT(readers->bad_lines().examples().at(0), Catch::Contains("at byte 12"));
}

TEST_CASE("a bad line keeps its place in the global order") {
  std::string text = Lines(0, 35);
  text.replace(text.find("1 3:1"), 5, "1 3;1");
  const std::string file = WriteFile("place.libsvm", text);
  const JobConfig config = Base(absl::StrCat("format: LIBSVM max_bad_lines: 1 train { files: '",
                                             file, "' shuffle_window: 20 }"));
  std::vector<size_t> rows;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    const auto readers = Make(config);
    SyncSource* source = *readers->TrainSteps(0);
    REQUIRE(source->SetRange(Range(0, 100, rank, 2)).ok());
    rows.push_back(Drain(source, 10).size());
    CHECK(source->end_of_data_step() == 4);
  }
  CHECK(rows[0] + rows[1] == 34);
}

TEST_CASE("a file of another format is told after 100 lines, whatever the limit") {
  std::string criteo;
  for (int i = 0; i < 500; ++i) criteo += "0\t1\t\t2" + std::string(36, '\t') + "\n";
  const std::string file = WriteFile("criteo_as_libsvm", criteo);
  for (const int limit : {0, 50, 100000}) {
    const auto readers = Make(Base(
        absl::StrCat("format: LIBSVM max_bad_lines: ", limit, " train { files: '", file, "' }")));
    Batch batch;
    const absl::Status s = (*readers->OpenTrain(0))->Next(1000, &batch).status();
    CHECK(absl::IsInvalidArgument(s));
    CHECK_THAT(std::string(s.message()), Catch::Contains("label index:value"));
    CHECK(readers->bad_lines().count() == std::min<uint64_t>(limit + 1, 100));
  }
}

TEST_CASE("data that is missing or empty is an error at the start") {
  Batch batch;
  const auto none = Make(Base("format: LIBSVM train { files: '/nowhere/x' }"));
  CHECK(absl::IsNotFound(none->OpenTrain(0).status()));
  CHECK(absl::IsNotFound((*none->TrainSteps(0))->SetRange(Range(0, 1))));
  CHECK(absl::IsInvalidArgument(none->OpenEval().status()));
  const std::string blank = WriteFile("blank.libsvm", "\n\n");
  const auto blanks = Make(Base(absl::StrCat("format: LIBSVM train { files: '", blank, "' }")));
  SyncSource* source = *blanks->TrainSteps(0);
  REQUIRE(source->SetRange(Range(0, 1)).ok());
  CHECK(absl::IsInvalidArgument(source->Next(0, &batch).status()));
}

TEST_CASE("a file written by the generator reads as the rows themselves") {
  JobConfig config = Base(R"(format: GENERATED train { rows: 300 }
    generator { cardinality: 1000 cardinality: 50 numeric_fields: 2 missing_rate: 0.1 })");
  google::protobuf::TextFormat::MergeFromString(R"(
    feature { name: "C2" id { missing: SKIP } table: "t" } feature { name: "I1" numeric { missing_value: -1 } }
    feature { name: "I2" numeric { transform: LOG2_BUCKET } table: "t" })",
                                                &config);
  const Generator generator = *Generator::Create(config.data().generator());
  REQUIRE(WrittenFormat(generator) == DataConfig::CRITEO_TSV);
  Batch want;
  REQUIRE(*(*Make(config)->OpenTrain(0))->Next(1000, &want));
  REQUIRE(want.rows == 300);
  for (const char* name : {"g.tsv", "g.tsv.gz", "g.tsv.zst"}) {
    const std::string path = TempDir() + "/" + name;
    uint64_t progress = 0;
    REQUIRE(WriteRows(generator, 0, 300, path, [&](uint64_t n) { progress = n; }).ok());
    CHECK(progress == 300);
    JobConfig from_file = config;
    from_file.mutable_data()->set_format(DataConfig::CRITEO_TSV);
    from_file.mutable_data()->mutable_train()->add_files(path);
    Batch got;
    REQUIRE(*(*Make(from_file)->OpenTrain(0))->Next(1000, &got));
    CHECK(got.labels == want.labels);
    CHECK(got.numeric == want.numeric);
    for (size_t f = 0; f < want.features.size(); ++f) {
      CHECK(got.features[f].keys == want.features[f].keys);
      CHECK(got.features[f].offsets == want.features[f].offsets);
    }
  }
  CHECK_FALSE(WriteRows(generator, 3, 3, TempDir() + "/none.tsv", nullptr).ok());
  CHECK_FALSE(WriteRows(generator, 0, 3, "/nowhere/g.tsv", nullptr).ok());
}

TEST_CASE("generated sets with many fields are written as libsvm") {
  GeneratorConfig wide;
  for (int i = 0; i < 27; ++i) wide.add_cardinality(10);
  wide.set_numeric_fields(1);
  const Generator generator = *Generator::Create(wide);
  REQUIRE(WrittenFormat(generator) == DataConfig::LIBSVM);
  const std::string path = TempDir() + "/wide.libsvm";
  REQUIRE(WriteRows(generator, 0, 50, path, nullptr).ok());
  const auto readers = Make(Base(absl::StrCat("format: LIBSVM train { files: '", path, "' }")));
  const Samples rows = Drain((*readers->OpenTrain(0)).get());
  REQUIRE(rows.size() == 50);
  GeneratedRow row;
  generator.Make(49, &row);
  CHECK(rows[49].keys.size() == 28);
  CHECK(rows[49].label == static_cast<float>(row.label));
}

TEST_CASE("the real samples read whole") {
  const std::string criteo = RealData("criteo_avazu_sample/criteo.train.csv");
  const std::string frappe = RealData("frappe/valid.libfm");
  const std::string a9a = RealData("a9a/a9a.t");
  if (criteo.empty() || frappe.empty() || a9a.empty()) {
    WARN("SKIPPED: set TIDEGATE_DATA to the folder of the real samples");
    return;
  }
  CHECK(
      Drain(
          (*Make(Base("format: CRITEO_TSV train { files: '" + criteo + "' }"))->OpenTrain(0)).get())
          .size() == 7200);
  const Samples rows = Drain(
      (*Make(Base("format: LIBSVM train { files: '" + frappe + "' }"))->OpenTrain(0)).get(), 4096);
  CHECK(rows.size() == 57722);
  CHECK(std::all_of(rows.begin(), rows.end(), [](const Sample& s) { return s.keys.size() == 10; }));
  CHECK(Drain((*Make(Base("format: LIBSVM train { files: '" + a9a + "' }"))->OpenTrain(0)).get())
            .size() == 16281);
}

}  // namespace tidegate
