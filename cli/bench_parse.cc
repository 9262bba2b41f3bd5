#include "cli/bench_parse.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "worker/data/byte_reader.h"
#include "worker/data/generator_writer.h"
#include "worker/data/readers.h"

namespace tidegate::cli {
namespace {

constexpr int kRepeats = 5;
constexpr uint32_t kNumeric = 13, kCategories = 26;

double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Set {
  std::string name;
  DataConfig::Format format = DataConfig::UNSET;
  std::string file;
};

// The rows of a CRITEO_TSV file in another format.
absl::Status Convert(const std::string& from, const std::string& to, DataConfig::Format format) {
  std::ifstream in(from, std::ios::binary);
  std::ofstream out(to, std::ios::binary);
  std::string line;
  while (std::getline(in, line)) {
    const std::vector<std::string> fields = absl::StrSplit(line, '\t');
    std::string text = fields[0];
    for (size_t i = 1; i < fields.size(); ++i) {
      if (format == DataConfig::CSV) {
        absl::StrAppend(&text, ",", fields[i]);
      } else if (!fields[i].empty()) {
        absl::StrAppend(&text, " ", i, ":", fields[i], ":0.36510");
      }
    }
    out << text << '\n';
  }
  out.close();
  return out.good() ? absl::OkStatus() : absl::UnavailableError(absl::StrCat(to, ": cannot be written"));
}

JobConfig ConfigOf(const Set& set) {
  JobConfig config;
  DataConfig* data = config.mutable_data();
  data->set_format(set.format);
  data->mutable_train()->add_files(set.file);
  config.mutable_model()->add_task();
  if (set.format == DataConfig::CSV) {
    data->mutable_csv()->set_header(false);
    data->mutable_csv()->add_column("label");
  }
  for (uint32_t i = 1; i <= kNumeric + kCategories; ++i) {
    FeatureConfig* f = config.add_feature();
    const bool numeric = i <= kNumeric;
    f->set_name(numeric ? absl::StrCat("I", i) : absl::StrCat("C", i - kNumeric));
    f->set_table("t");
    if (set.format == DataConfig::CSV) data->mutable_csv()->add_column(f->name());
    if (set.format == DataConfig::LIBFFM) f->set_column(absl::StrCat("#", i));
    if (numeric && set.format != DataConfig::LIBFFM) {
      f->mutable_numeric()->set_transform(NumericFeature::LOG2_BUCKET);
    } else {
      f->mutable_id()->set_use_values(set.format == DataConfig::LIBFFM);
    }
  }
  return config;
}

// CPU seconds to read the file's text and find its line ends; *bytes is its length.
absl::StatusOr<double> ScanSeconds(const std::string& file, uint64_t* bytes) {
  const double start = CpuSeconds();
  auto reader = OpenFile(file, 0);
  if (!reader.ok()) return reader.status();
  std::vector<char> buffer(256 << 10);
  uint64_t lines = 0;
  for (*bytes = 0;;) {
    auto n = (*reader)->Read(buffer.data(), buffer.size());
    if (!n.ok()) return n.status();
    if (*n == 0) break;
    *bytes += *n;
    const char* p = buffer.data();
    const char* const end = p + *n;
    while ((p = static_cast<const char*>(std::memchr(p, '\n', static_cast<size_t>(end - p)))) != nullptr) {
      ++lines;
      if (++p == end) break;
    }
  }
  if (lines == 0) return absl::InternalError(absl::StrCat(file, ": has no lines"));
  return CpuSeconds() - start;
}

absl::StatusOr<double> ParseSeconds(const Set& set) {
  const double start = CpuSeconds();
  auto readers = Readers::Create(ConfigOf(set));
  if (!readers.ok()) return readers.status();
  auto source = (*readers)->OpenTrain(0);
  if (!source.ok()) return source.status();
  Batch batch;
  for (;;) {
    auto more = (*source)->Next(4096, &batch);
    if (!more.ok()) return more.status();
    if (!*more) return CpuSeconds() - start;
  }
}

absl::Status Measure(const Set& set, const std::function<void(const BenchFigure&)>& report) {
  double parse = 1e30, scan = 1e30;
  uint64_t bytes = 0;
  for (int i = 0; i < kRepeats; ++i) {
    auto s = ScanSeconds(set.file, &bytes);
    if (!s.ok()) return s.status();
    auto p = ParseSeconds(set);
    if (!p.ok()) return p.status();
    scan = std::min(scan, *s);
    parse = std::min(parse, *p);
  }
  const double mb = static_cast<double>(bytes) * 1e-6;
  report({set.name, mb / parse, "MB/s", mb / scan, parse / mb * 1e6});
  return absl::OkStatus();
}

absl::Status Run(const BenchParseOptions& options, const std::function<void(const BenchFigure&)>& report) {
  GeneratorConfig config;
  config.set_numeric_fields(kNumeric);
  for (uint32_t i = 0; i < kCategories; ++i) config.add_cardinality(uint64_t{10} << (i / 2));
  auto generator = Generator::Create(config);
  if (!generator.ok()) return generator.status();
  const uint64_t rows = options.quick ? 50000 : 300000;
  const std::string base = options.run_dir + "/rows";
  const Set sets[] = {{"parse criteo_tsv", DataConfig::CRITEO_TSV, base + ".tsv"},
                      {"parse csv", DataConfig::CSV, base + ".csv"},
                      {"parse libffm", DataConfig::LIBFFM, base + ".ffm"},
                      {"parse criteo_tsv gzip", DataConfig::CRITEO_TSV, base + ".tsv.gz"},
                      {"parse criteo_tsv zstd", DataConfig::CRITEO_TSV, base + ".tsv.zst"}};
  if (absl::Status s = WriteRows(*generator, 0, rows, sets[0].file, nullptr); !s.ok()) return s;
  for (const Set& set : sets) {
    if (set.name.find(options.only) == std::string::npos) continue;
    absl::Status s;
    if (set.format != DataConfig::CRITEO_TSV) {
      s = Convert(sets[0].file, set.file, set.format);
    } else if (set.file != sets[0].file) {
      s = WriteRows(*generator, 0, rows, set.file, nullptr);
    }
    if (s.ok()) s = Measure(set, report);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BenchParse(const BenchParseOptions& options, const std::function<void(const BenchFigure&)>& report) {
  std::error_code error;
  std::filesystem::create_directories(options.run_dir, error);
  if (error) return absl::UnavailableError(absl::StrCat(options.run_dir, ": ", error.message()));
  const absl::Status status = Run(options, report);
  std::filesystem::remove_all(options.run_dir, error);
  return status;
}

}  // namespace tidegate::cli
