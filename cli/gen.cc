// `tidegate gen`: writes a generated click log to a file.

#include <unistd.h>

#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "common/job_config/job_config.h"
#include "worker/data/generator_writer.h"

DEFINE_uint64(rows, 1000000, "rows to write");
DEFINE_uint64(first_row, 0, "first row");
DEFINE_string(cardinalities, "100000,20000,5000,1000,300,100,50,10", "one categorical field each");
DEFINE_uint32(numeric_fields, 4, "numeric fields");

namespace tidegate::cli {
namespace {

absl::StatusOr<GeneratorConfig> ConfigByFlags(const std::vector<std::string>& sets) {
  if (!FLAGS_config.empty()) {
    auto job = LoadJobConfig(FLAGS_config, sets);
    if (!job.ok()) return job.status();
    if (!job->data().has_generator()) {
      return absl::InvalidArgumentError(FLAGS_config + ": data has no generator { }");
    }
    return job->data().generator();
  }
  if (!sets.empty()) return absl::InvalidArgumentError("--set needs --config");
  GeneratorConfig config;
  config.set_seed(FLAGS_seed);
  config.set_numeric_fields(FLAGS_numeric_fields);
  for (const auto& word : absl::StrSplit(FLAGS_cardinalities, ',')) {
    uint64_t cardinality = 0;
    if (!absl::SimpleAtoi(word, &cardinality) || cardinality == 0) {
      return absl::InvalidArgumentError("--cardinalities=" + FLAGS_cardinalities + ": numbers from 1 with commas between, such as 100000,500");
    }
    config.add_cardinality(cardinality);
  }
  return config;
}

int Fail(const absl::Status& status) {
  std::cerr << "tidegate gen: " << status.message() << "\n";
  return kFailed;
}

int RunGen(const Arguments& arguments) {
  if (FLAGS_out.empty() || !arguments.positional.empty()) {
    std::cerr << "usage: tidegate gen --out=FILE [--rows=N] [--config=FILE | --cardinalities=...]\n";
    return kUsage;
  }
  auto config = ConfigByFlags(arguments.Repeated("set"));
  if (!config.ok()) {
    Fail(config.status());
    return FLAGS_config.empty() ? kUsage : kFailed;
  }
  auto generator = Generator::Create(*config);
  if (!generator.ok()) return Fail(generator.status());
  const uint64_t end = FLAGS_first_row + FLAGS_rows;
  const bool progress = !FLAGS_quiet && isatty(STDERR_FILENO) != 0;
  const absl::Status written = WriteRows(*generator, FLAGS_first_row, end, FLAGS_out, [&](uint64_t rows) {
    if (progress) std::cerr << "\r" << rows * 100 / FLAGS_rows << "%" << std::flush;
  });
  if (progress) std::cerr << "\r    \r";
  if (!written.ok()) return Fail(written);
  auto attainable = generator->Attainable(FLAGS_first_row, end);
  if (!attainable.ok()) return Fail(attainable.status());
  const bool criteo = WrittenFormat(*generator) == DataConfig::CRITEO_TSV;
  std::cout << JsonObject()
                   .Text("file", FLAGS_out)
                   .Text("format", criteo ? "CRITEO_TSV" : "LIBSVM")
                   .Integer("rows", static_cast<int64_t>(attainable->rows))
                   .Integer("positives", static_cast<int64_t>(attainable->positives))
                   .Number("attainable_auc", attainable->auc)
                   .Number("attainable_logloss", attainable->logloss)
                   .Build()
            << "\n";
  return kOk;
}

}  // namespace

Command GenCommand() {
  return {"gen",
          "",
          "write a generated click log, and print the best attainable AUC and log loss as JSON",
          {{"out", "FILE", "where to; .gz and .zst compress"},
           Ranged({"rows", "N", "rows to write"}, 1, int64_t{1} << 40),
           Ranged({"first_row", "N", "row N is the same in every file of a seed"}, 0, int64_t{1} << 60),
           {"seed", "N", "of the planted model and the rows"},
           {"cardinalities", "N,N,...", "categorical fields"},
           Ranged({"numeric_fields", "N", "numeric fields"}, 0, 4096),
           {"config", "FILE", "take data.generator of a job config instead"},
           {"set", "path=value", "override a field of the config", true},
           {"quiet", "", "no progress"}},
          RunGen};
}

}  // namespace tidegate::cli
