// How fast one core turns rows into batches, by CPU time:
//   read_bench CRITEO_TSV|LIBSVM FILE...   MB/s and rows/s, all columns
//   read_bench GENERATED                   rows/s of 8 categories and 4 numeric fields
//   read_bench shuffle FORMAT FILE...      with windows of 100,000 rows

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>

#include "absl/strings/str_cat.h"
#include "worker/data/byte_reader.h"
#include "worker/data/readers.h"

namespace tidegate {
namespace {

void AddId(const std::string& name, const std::string& column, JobConfig* config) {
  FeatureConfig* f = config->add_feature();
  f->set_name(name);
  f->set_column(column);
  f->set_table("t");
  f->mutable_id();
}

int Main(int argc, char** argv) {
  int arg = 1;
  JobConfig config;
  Source* train = config.mutable_data()->mutable_train();
  if (arg < argc && std::strcmp(argv[arg], "shuffle") == 0) {
    train->set_shuffle_window(100000);
    ++arg;
  }
  DataConfig::Format format = DataConfig::UNSET;
  if (arg >= argc || !DataConfig::Format_Parse(argv[arg++], &format)) return 2;
  config.mutable_data()->set_format(format);
  config.mutable_model()->add_task();
  uint64_t bytes = 0;
  for (; arg < argc; ++arg) {
    train->add_files(argv[arg]);
    bytes += FileBytes(argv[arg]).value_or(0);
  }
  if (format == DataConfig::LIBSVM) {
    AddId("all", "*", &config);
  } else {
    const bool criteo = format == DataConfig::CRITEO_TSV;
    for (int i = 1; i <= (criteo ? 13 : 4); ++i) {
      FeatureConfig* f = config.add_feature();
      f->set_name(absl::StrCat("I", i));
      f->mutable_numeric()->set_transform(NumericFeature::LOG2_BUCKET);
      f->set_table("t");
    }
    for (int i = 1; i <= (criteo ? 26 : 8); ++i) AddId(absl::StrCat("C", i), "", &config);
  }
  if (format == DataConfig::GENERATED) {
    GeneratorConfig* g = config.mutable_data()->mutable_generator();
    g->set_numeric_fields(4);
    for (int i = 0; i < 8; ++i) g->add_cardinality(uint64_t{10} << (2 * i));
    train->set_rows(1000000);
  }
  auto readers = Readers::Create(config);
  if (!readers.ok()) {
    std::fprintf(stderr, "%s\n", readers.status().ToString().c_str());
    return 1;
  }
  double best = 1e30;
  uint64_t rows = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const std::clock_t start = std::clock();
    auto source = (*readers)->OpenTrain(0);
    Batch batch;
    rows = 0;
    for (;;) {
      auto more = source.ok() ? (*source)->Next(4096, &batch) : source.status();
      if (!more.ok()) {
        std::fprintf(stderr, "%s\n", more.status().ToString().c_str());
        return 1;
      }
      if (!*more) break;
      rows += batch.rows;
    }
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  std::printf("%.1f MB/s  %.3f Mrows/s  (%llu rows, best of 5)\n", bytes / best * 1e-6,
              rows / best * 1e-6, static_cast<unsigned long long>(rows));
  return 0;
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) { return tidegate::Main(argc, argv); }
