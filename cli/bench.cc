// `tidegate bench`: figures of this machine, each beside its ceiling.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "cli/bench_figure.h"
#include "cli/bench_parse.h"
#include "cli/bench_train.h"
#include "cli/bench_wire.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "server/table/table_bench.h"

namespace tidegate::cli {
namespace {

int figures = 0;

void Print(const BenchFigure& figure) {
  ++figures;
  std::cout << (FLAGS_json ? FigureJson(figure) : FigureLine(figure)) << std::endl;
}

absl::Status RunTable() {
  BenchTable(FLAGS_quick ? QuickTableBench() : TableBenchOptions(), [](const TableFigure& f) {
    Print({f.name, f.value, f.unit, f.ceiling, f.cpu_us_per_unit});
  });
  return absl::OkStatus();
}

std::string RunFolder() {
  return std::filesystem::absolute(absl::StrCat("tidegate-run/bench-", getpid())).string();
}

BenchWireOptions WireOptions() {
  BenchWireOptions options;
  options.quick = FLAGS_quick;
  options.bin_dir = FLAGS_bin_dir;
  options.only = FLAGS_only;
  options.run_dir = RunFolder();
  return options;
}

absl::Status RunParse() { return BenchParse({FLAGS_quick, FLAGS_only, RunFolder()}, Print); }

absl::Status RunTrain() {
  BenchTrainOptions options;
  options.quick = FLAGS_quick;
  options.bin_dir = FLAGS_bin_dir;
  options.run_dir = RunFolder();
  std::cerr << "training a DeepFM job on this machine, and its matrix products alone before and after: "
            << (FLAGS_quick ? "about half a minute" : "some minutes") << std::endl;
  return BenchTrain(options, Print);
}

int RunBench(const Arguments& arguments) {
  const std::string what = arguments.positional.size() == 1 ? arguments.positional[0] : "";
  absl::Status status;
  if (what == "table") {
    status = RunTable();
  } else if (what == "wire") {
    status = RunBenchWire(WireOptions(), Print);
  } else if (what == "replication") {
    status = RunBenchReplication(WireOptions(), Print);
  } else if (what == "parse") {
    status = RunParse();
  } else if (what == "train") {
    status = RunTrain();
  } else {
    std::cerr << "usage: tidegate bench table|wire|replication|train|parse [--quick] [--json]\n";
    return kUsage;
  }
  if (status.ok() && figures == 0) status = absl::NotFoundError(absl::StrCat("--only=", FLAGS_only, ": no figure has that in its name"));
  if (status.ok()) return kOk;
  std::cerr << "tidegate bench " << what << ": " << status.message() << std::endl;
  std::_Exit(kFailed);  // a thread may still wait for the cluster that has ended
}

}  // namespace

Command BenchCommand() {
  return {"bench",
          "table|wire|replication|train|parse",
          "measure this machine; every figure beside a ceiling of the same run",
          {{"quick", "", "smaller and shorter"},
           {"json", "", "a JSON object a line"},
           {"only", "TEXT", "wire, replication, parse: figures with TEXT in their names"},
           {"bin_dir", "DIR", "where the other binaries are (default: beside this one)"}},
          RunBench};
}

}  // namespace tidegate::cli
