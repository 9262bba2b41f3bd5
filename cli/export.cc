// `tidegate export`: a checkpoint as safetensors with a spec of its features.

#include <iostream>

#include "cli/command.h"
#include "cli/export_writer.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/status_text.h"
#include "common/export/export_reader.h"

namespace tidegate::cli {
namespace {

int RunExport(const Arguments& arguments) {
  if (FLAGS_checkpoint.empty() || FLAGS_out.empty() || !arguments.positional.empty()) {
    std::cerr << "usage: tidegate export --checkpoint=DIR --out=DIR [--force]\n";
    return kUsage;
  }
  FileSystem& files = RealFileSystem();
  auto there = files.List(FLAGS_out);
  if (!FLAGS_force && there.ok() && !there->empty()) {
    std::cerr << "tidegate export: " << FLAGS_out << " is not empty: --force writes into it\n";
    return kFailed;
  }
  auto result = WriteExport(files, FLAGS_checkpoint, FLAGS_out);
  if (!result.ok()) {
    std::cerr << "tidegate export: " << result.status().message() << "\n";
    return kFailed;
  }
  if (FLAGS_json) {
    std::cout << JsonObject()
                     .Text("out", FLAGS_out)
                     .Integer("tensors", static_cast<int64_t>(result->tensors))
                     .Integer("rows", static_cast<int64_t>(result->rows))
                     .Integer("bytes", static_cast<int64_t>(result->bytes))
                     .Build()
              << "\n";
    return kOk;
  }
  std::cout << JoinPath(FLAGS_out, kExportTensorsName) << "  " << result->tensors << " tensors, " << result->rows
            << " sparse rows, " << ShortBytes(static_cast<double>(result->bytes)) << "\n"
            << JoinPath(FLAGS_out, kExportSpecName) << "  features, hash, model graph\n"
            << JoinPath(FLAGS_out, kExportConfigName) << "  the resolved config\n";
  return kOk;
}

}  // namespace

Command ExportCommand() {
  return {"export",
          "",
          "write a checkpoint as safetensors with the spec of its features, for PyTorch, Python and warm starts",
          {{"checkpoint", "DIR", "the checkpoint's folder (the one with MANIFEST)"},
           {"out", "DIR", "the folder to write"},
           {"force", "", "write into a folder that is not empty"},
           {"json", "", "the result as one JSON object"}},
          RunExport};
}

}  // namespace tidegate::cli
