// What holds for every text format: no row is lost or doubled, whatever the splits, the compression, the
// window and the number of workers.
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/data/test_files.h"
#include "worker/data/byte_reader.h"
#include "worker/data/readers.h"

namespace tidegate {
namespace {

// What makes a row the same row.
using Sample = std::tuple<uint64_t, float, std::vector<Key>>;
using Samples = std::vector<Sample>;

struct Format {
  const char* name;
  std::string config;  // of data, without the files
  std::string header;
  std::string (*line)(int);
};

std::string CsvLine(int i) { return absl::StrCat(i % 2, ",\"", i, ",x\",a", i, "|b", i % 7, "\n"); }
std::string TsvLine(int i) { return absl::StrCat(i % 11, "\t", i, i % 3 == 0 ? "\r\n" : "\n"); }
std::string FfmLine(int i) { return absl::StrCat(i % 2, " 1:", i, ":1 2:", i % 7, ":0.5 2:9:1\n"); }
std::string SvmLine(int i) { return absl::StrCat(i % 2, " ", i, ":1 ", i * i, ":1\n"); }
std::string CriteoLine(int i) {
  std::string line = absl::StrCat(i % 2);
  for (int c = 1; c < 40; ++c) absl::StrAppend(&line, "\t", c % 5 == 0 ? "" : absl::StrCat(c + i));
  return line + "\n";
}

const Format kFormats[] = {
    {"csv", R"(format: CSV csv {} @ } feature { name: "a" column: "user" id {} table: "t" }
       feature { name: "b" column: "tags" id { multi_valued: true } table: "t" })",
     "label,user,tags\n", CsvLine},
    {"pairs", R"(format: CSV csv { delimiter: "\t" header: false column: ["user", "item"] }
       negatives { column: "item" per_positive: 4 values: 500 exclude_seen_by: "user" } @ }
       feature { name: "a" column: "user" id {} table: "t" }
       feature { name: "b" column: "item" id {} table: "t" })",
     "", TsvLine},
    {"libffm", R"(format: LIBFFM @ } feature { name: "a" column: "#1" id {} table: "t" }
       feature { name: "b" column: "#2" id { multi_valued: true } table: "t" })",
     "", FfmLine},
    {"libsvm", R"(format: LIBSVM @ } feature { name: "a" column: "*" id {} table: "t" })", "", SvmLine},
    {"criteo", R"(format: CRITEO_TSV @ } feature { name: "c" column: "C1" id {} table: "t" })", "",
     CriteoLine}};

std::string Text(const Format& f, int begin, int end) {
  std::string text = f.header;
  for (int i = begin; i < end; ++i) text += f.line(i);
  return text;
}

// 91 lines in a plain, a gzip and a zstd file.
JobConfig ConfigOf(const Format& f, int window) {
  const std::string at = absl::StrCat("formats_", f.name);
  std::string source = absl::StrCat(
      " train { files: '", WriteFile(at + "_a", Text(f, 0, 41)), "' files: '",
      WriteFile(at + "_b.gz", Gzip(Text(f, 41, 60))), "' files: '",
      WriteFile(at + "_c.zst", Zstd(Text(f, 60, 91))), "' shuffle_window: ", window, " } ");
  std::string config = "data { " + f.config;
  config.replace(config.find('@'), 1, source);
  JobConfig out;
  INFO(config);
  REQUIRE(google::protobuf::TextFormat::ParseFromString(
      config + " model { task {} } train { global_batch: 10 }", &out));
  return out;
}

std::unique_ptr<Readers> Make(const JobConfig& config) {
  auto readers = Readers::Create(config);
  INFO(readers.status());
  REQUIRE(readers.ok());
  return *std::move(readers);
}

void AppendTo(const Batch& b, Samples* out) {
  for (size_t r = 0; r < b.rows; ++r) {
    Sample s{b.sample_id[r], b.labels[0][r], {}};
    for (const FeatureColumn& c : b.features) {
      auto& keys = std::get<2>(s);
      keys.insert(keys.end(), c.keys.begin() + c.offsets[r], c.keys.begin() + c.offsets[r + 1]);
    }
    out->push_back(s);
  }
}

void Drain(BatchSource* source, size_t max_rows, Samples* out) {
  Batch batch;
  for (;;) {
    auto more = source->Next(max_rows, &batch);
    INFO(more.status());
    REQUIRE(more.ok());
    if (!*more) return;
    REQUIRE(batch.rows <= std::max<size_t>(max_rows, 5));
    AppendTo(batch, out);
  }
}

Samples Whole(const JobConfig& config, uint64_t epoch) {
  Samples out;
  auto readers = Make(config);
  Drain(readers->OpenTrain(epoch)->get(), 13, &out);
  return out;
}

Samples Sorted(Samples s) {
  std::sort(s.begin(), s.end());
  return s;
}

}  // namespace

TEST_CASE("every format: splits of any size give every row once") {
  for (const Format& f : kFormats) {
    INFO(f.name);
    const JobConfig config = ConfigOf(f, 7);
    const Samples whole = Sorted(Whole(config, 3));
    CHECK(whole.size() == (f.name == std::string("pairs") ? 5 * 91 : 91));
    CHECK(std::adjacent_find(whole.begin(), whole.end()) == whole.end());
    auto readers = Make(config);
    for (const uint64_t step : {1, 2, 3, 7, 50, 331, 100000}) {
      INFO(step);
      Samples parts;
      for (int file = 0; file < config.data().train().files_size(); ++file) {
        Split split;
        split.set_source(static_cast<uint32_t>(file));
        split.set_file(config.data().train().files(file));
        const uint64_t bytes = *FileBytes(split.file());
        const bool cut = CompressionOf(split.file()) == Compression::kNone;
        for (uint64_t begin = 0; begin < bytes; begin = split.end()) {
          split.set_begin(begin);
          split.set_end(cut ? std::min(bytes, begin + step) : bytes);
          auto source = readers->OpenTrainSplit(split, 3);
          REQUIRE(source.ok());
          Drain(source->get(), 13, &parts);
        }
      }
      CHECK(Sorted(parts) == whole);
    }
  }
}

TEST_CASE("every format: any number of ranks puts together the same steps") {
  for (const Format& f : kFormats) {
    INFO(f.name);
    const JobConfig config = ConfigOf(f, 20);
    Samples one;
    for (const uint32_t world : {1, 2, 3}) {
      std::vector<std::unique_ptr<Readers>> readers;
      std::vector<SyncSource*> ranks;
      for (uint32_t r = 0; r < world; ++r) {
        readers.push_back(Make(config));
        ranks.push_back(*readers.back()->TrainSteps(1));
        SyncRange range;
        range.set_end_step(1000);
        range.set_rank(r);
        range.set_world(world);
        REQUIRE(ranks.back()->SetRange(range).ok());
      }
      Samples out;
      Batch batch;
      for (bool more = true; more;) {
        for (SyncSource* s : ranks) {
          auto next = s->Next(0, &batch);
          REQUIRE(next.ok());
          more = *next;
          CHECK(batch.rows <= 10);
          AppendTo(batch, &out);
        }
      }
      if (world == 1) one = out;
      CHECK(out == one);
    }
    CHECK(Sorted(one) == Sorted(Whole(config, 1)));
  }
}

TEST_CASE("negatives are drawn anew in every epoch, positives stay") {
  const JobConfig config = ConfigOf(kFormats[1], 0);
  const Samples a = Whole(config, 0), b = Whole(config, 1);
  REQUIRE(a.size() == b.size());
  size_t same = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::get<1>(a[i]) == 1) CHECK(a[i] == b[i]);
    same += std::get<1>(a[i]) == 0 && a[i] == b[i];
  }
  CHECK(same < 30);
}

TEST_CASE("a header that is not the schema's is refused with file and column") {
  const auto error = [](const std::string& csv, const std::string& first, const std::string& second) {
    JobConfig config;
    const std::string a = WriteFile("header_a.csv", first), b = WriteFile("header_b.csv", second);
    REQUIRE(google::protobuf::TextFormat::ParseFromString(
        absl::StrCat("data { format: CSV csv { ", csv, " } train { files: ['", a, "', '", b,
                     "'] } } feature { name: 'user' id {} table: 't' } model { task {} }"),
        &config));
    auto readers = Readers::Create(config);
    if (!readers.ok()) return std::string(readers.status().message());
    auto source = (*readers)->OpenTrain(0);
    REQUIRE(source.ok());
    Batch batch;
    absl::StatusOr<bool> more = true;
    while (more.ok() && *more) more = (*source)->Next(10, &batch);
    return std::string(more.status().message());
  };
  const std::string good = "label,user\n1,a\n";
  const std::string columns = "column: ['label', 'user']";
  CHECK(error("", good, good) == "");
  CHECK(error(columns, "label,\"user\"\r\n1,a\r\n", good) == "");
  CHECK_THAT(error("", good, "user,label\na,1\n"),
             Catch::Contains("header_b.csv:1: the header: column 1 is \"user\", not \"label\""));
  CHECK_THAT(error(columns, "1,a\n", good), Catch::Contains("header_a.csv:1") &&
                                                Catch::Contains("header: false"));
  CHECK_THAT(error("", good, "label,user,more\n1,a,b\n"), Catch::Contains("3 columns, not 2"));
  CHECK_THAT(error("", "label,user,user\n1,a,b\n", good), Catch::Contains("\"user\" is there twice"));
  CHECK_THAT(error("", "label,,user\n1,a,b\n", good), Catch::Contains("column 2 has no name"));
  CHECK_THAT(error("", "label,item\n1,a\n", good), Catch::Contains("there are label, item"));
  CHECK_THAT(error(columns, "", good), Catch::Contains("header_a.csv:1: no header"));
}

TEST_CASE("data.valid has its own format and columns") {
  JobConfig config;
  const std::string train = WriteFile("sides.tsv", "1\t5\n");
  const std::string valid = WriteFile("sides.negative", "(1,7)\t8\t9\n(2,7)\t3\t4\n");
  REQUIRE(google::protobuf::TextFormat::ParseFromString(
      absl::StrCat("data { format: CSV csv { delimiter: '\\t' header: false column: ['user', 'item'] }",
                   " valid_format: NCF_NEGATIVES group: 'user'",
                   " negatives { column: 'item' per_positive: 1 values: 9 }",
                   " train { files: '", train, "' } valid { files: '", valid, "' } }",
                   " feature { name: 'item' id {} table: 't' } model { task {} }"),
      &config));
  auto readers = Make(config);
  Samples from_train, from_valid;
  Drain(readers->OpenTrain(0)->get(), 10, &from_train);
  Drain(readers->OpenEval()->get(), 3, &from_valid);
  CHECK(from_train.size() == 2);
  REQUIRE(from_valid.size() == 6);
  CHECK(std::get<2>(from_valid[0]) == std::get<2>(from_valid[3]));
}

TEST_CASE("the real samples of libffm, Avazu and MovieLens read whole") {
  struct Sample {
    const char* file;
    const char* config;
    size_t rows;
  };
  const Sample samples[] = {
      {"criteo_avazu_sample/xlearn_small_train.ffm",
       "format: LIBFFM @ } feature { name: 'f' column: '*' id { multi_valued: true } table: 't' }", 200},
      {"criteo_avazu_sample/avazu.train.csv",
       "format: CSV @ } feature { name: 'f' column: 'site_id' id {} table: 't' }", 8087},
      {"ml-1m/ml-1m.test.negative",
       "format: NCF_NEGATIVES group: 'user' @ } feature { name: 'f' column: 'item' id {} table: 't' }",
       604000}};
  for (const Sample& s : samples) {
    const std::string file = RealData(s.file);
    if (file.empty()) {
      WARN("SKIPPED: no " << s.file << " under $TIDEGATE_DATA");
      continue;
    }
    std::string text = std::string("data { ") + s.config + " model { task { label: '" +
                       (file.ends_with(".csv") ? "click" : "label") + "' } }";
    text.replace(text.find('@'), 1, " train { files: '" + file + "' }");
    JobConfig config;
    REQUIRE(google::protobuf::TextFormat::ParseFromString(text, &config));
    Samples rows;
    auto readers = Make(config);
    auto source = readers->OpenTrain(0);
    Batch batch;
    size_t n = 0;
    for (;;) {
      auto more = (*source)->Next(4096, &batch);
      INFO(more.status());
      REQUIRE(more.ok());
      if (!*more) break;
      n += batch.rows;
    }
    CHECK(n == s.rows);
  }
}

}  // namespace tidegate
