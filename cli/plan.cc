// `tidegate plan`: what a job would need and do. Starts nothing.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/job_plan.h"
#include "cli/json.h"
#include "cli/status_text.h"
#include "common/job_config/job_config.h"

DECLARE_uint64(limit);

namespace tidegate::cli {
namespace {

std::string Rounded(double value) { return value < 10000 ? absl::StrCat(std::llround(value)) : ShortNumber(value); }

std::string NodesText(const JobPlan& plan) {
  std::string out = absl::StrFormat("%-18s %-14s %12s %12s %12s  %s\n", "graph", "kind", "per sample", "parameters", "FLOPs", "of");
  for (const NodePlanReport& node : plan.nodes) {
    std::string inputs = absl::StrJoin(node.inputs, ", ");
    if (inputs.size() > 60) inputs = absl::StrCat(node.inputs.size(), " inputs");
    absl::StrAppendFormat(&out, "  %-16s %-14s %12s %12s %12s  %s\n", node.name, node.kind, absl::StrFormat("[%d, %d]", node.fields, node.dim),
                          node.parameters == 0 ? "" : absl::StrCat(node.parameters), Rounded(node.flops), inputs);
  }
  return out;
}

std::string TablesText(const JobPlan& plan) {
  std::string out;
  absl::StrAppendFormat(&out, "\n%-18s %10s %10s %8s %10s %14s %14s\n", "sparse tables", "rows", "seen", "floats", "row bytes", "parameters", "bytes/server");
  for (const TablePlanReport& t : plan.tables) {
    absl::StrAppendFormat(&out, "  %-16s %10s %10s %8d %10d %14s %14s  rows: %s\n", t.name, Rounded(t.rows), absl::StrCat(t.seen), t.width, t.row_bytes,
                          Rounded(t.rows * t.width), ShortBytes(t.bytes_per_server), t.rows_by);
  }
  uint64_t parameters = 0, bytes = 0;
  for (const DensePlanReport& d : plan.dense) {
    parameters += d.parameters;
    bytes += d.bytes;
  }
  absl::StrAppendFormat(&out, "  dense            %d tensors, %s parameters, %s with optimizer state, over %d server(s)\n", plan.dense.size(),
                        Rounded(static_cast<double>(parameters)), ShortBytes(static_cast<double>(bytes)), plan.servers);
  return out;
}

std::string TrafficText(const JobPlan& plan) {
  std::string out = "\n";
  if (!plan.data_note.empty()) absl::StrAppend(&out, "data: not measured: ", plan.data_note, "\n");
  if (plan.rows_total > 0) absl::StrAppend(&out, "training data: about ", Rounded(plan.rows_total), " rows\n");
  absl::StrAppendFormat(&out, "per sample, in steps of %d samples a worker", plan.batch);
  if (plan.rows_read > 0) absl::StrAppend(&out, ", measured on ", plan.rows_read, " rows");
  absl::StrAppendFormat(&out, "\n  rows on the wire %10.2f   pulled %s, pushed %s\n  FLOPs            %10s   forward and backward\n", plan.rows_per_sample,
                        ShortBytes(plan.pulled_bytes), ShortBytes(plan.pushed_bytes), Rounded(plan.flops));
  const Bottleneck b = FindBottleneck(plan);
  const std::string reader = std::isnan(b.parse) ? "not known" : absl::StrFormat("%.2f us (%.0f MB/s)", b.parse * 1e6, kParseBytesPerSecond / 1e6);
  absl::StrAppendFormat(&out, "CPU per sample, assumed: reader %s, wire %.2f us (%.2f us a row), compute %.2f us (%.0f GFLOP/s)\n",
                        reader, b.wire * 1e6, kSecondsPerRow * 1e6, b.compute * 1e6, kFlopsPerSecond / 1e9);
  absl::StrAppend(&out, "what will limit: ", b.largest, "\n");
  return out;
}

std::string PlanJson(const JobPlan& plan) {
  std::vector<std::string> nodes, tables, dense;
  for (const NodePlanReport& n : plan.nodes) {
    std::vector<std::string> inputs;
    for (const std::string& in : n.inputs) inputs.push_back(JsonQuoted(in));
    nodes.push_back(JsonObject().Text("name", n.name).Text("kind", n.kind).Integer("fields", n.fields).Integer("dim", n.dim)
                        .Integer("parameters", static_cast<int64_t>(n.parameters)).Number("flops", n.flops).Raw("in", JsonArray(inputs)).Build());
  }
  for (const TablePlanReport& t : plan.tables) {
    tables.push_back(JsonObject().Text("name", t.name).Number("rows", std::round(t.rows)).Text("rows_by", t.rows_by)
                         .Integer("seen", static_cast<int64_t>(t.seen)).Integer("width", t.width).Integer("row_bytes", t.row_bytes)
                         .Number("bytes_per_server", t.bytes_per_server).Number("keys_per_step", t.keys_per_step).Build());
  }
  for (const DensePlanReport& d : plan.dense) {
    dense.push_back(JsonObject().Text("name", d.name).Raw("shape", absl::StrCat("[", absl::StrJoin(d.shape, ", "), "]"))
                        .Integer("parameters", static_cast<int64_t>(d.parameters)).Integer("bytes", static_cast<int64_t>(d.bytes)).Build());
  }
  const Bottleneck b = FindBottleneck(plan);
  return JsonObject().Integer("servers", plan.servers).Integer("workers", plan.workers).Integer("batch", static_cast<int64_t>(plan.batch))
      .Integer("rows_read", static_cast<int64_t>(plan.rows_read)).Number("rows_total", std::round(plan.rows_total)).Text("data_note", plan.data_note)
      .Raw("graph", JsonArray(nodes)).Raw("tables", JsonArray(tables)).Raw("dense", JsonArray(dense))
      .Number("rows_per_sample", plan.rows_per_sample).Number("pulled_bytes_per_sample", plan.pulled_bytes)
      .Number("pushed_bytes_per_sample", plan.pushed_bytes).Number("flops_per_sample", plan.flops)
      .Raw("cpu_seconds_per_sample", JsonObject().Number("reader", b.parse).Number("wire", b.wire).Number("compute", b.compute).Build())
      .Text("limit", b.largest).Build();
}

absl::StatusOr<std::map<std::string, uint64_t>> RowsOfTables(const std::vector<std::string>& texts, const JobConfig& job) {
  std::map<std::string, uint64_t> rows;
  std::vector<std::string> names;
  for (const TableConfig& t : job.table()) names.push_back(t.name());
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    uint64_t count = 0;
    const char* begin = text.data() + (equals == std::string::npos ? text.size() : equals + 1);
    const auto [end, error] = std::from_chars(begin, text.data() + text.size(), count);
    if (error != std::errc() || end != text.data() + text.size() || count > uint64_t{1} << 48) {
      return absl::InvalidArgumentError("--rows_of=" + text + ": write TABLE=ROWS");
    }
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return absl::InvalidArgumentError(absl::StrCat("--rows_of=", text, ": no table \"", name, "\"", DidYouMean(name, names)));
    }
    rows[name] = count;
  }
  return rows;
}

int RunPlan(const Arguments& arguments) {
  const std::vector<std::string> files = ConfigFiles(arguments);
  if (files.size() != 1) {
    std::cerr << "usage: tidegate plan FILE [--set path=value] [--rows_of=TABLE=ROWS] [--limit=ROWS]\n";
    return kUsage;
  }
  auto job = LoadJobConfig(files[0], arguments.Repeated("set"));
  absl::Status status = job.status();
  if (status.ok()) {
    auto rows = RowsOfTables(arguments.Repeated("rows_of"), *job);
    auto plan = rows.ok() ? PlanJob(*job, *rows, FLAGS_limit) : absl::StatusOr<JobPlan>(rows.status());
    status = plan.status();
    if (status.ok()) std::cout << (FLAGS_json ? PlanJson(*plan) + "\n" : NodesText(*plan) + TablesText(*plan) + TrafficText(*plan));
  }
  if (status.ok()) return kOk;
  std::cerr << "tidegate plan: " << status.message() << "\n";
  return kFailed;
}

}  // namespace

Command PlanCommand() {
  return {"plan",
          "FILE",
          "what a job config would need and do: graph, shapes, parameters, bytes, what will limit; starts nothing",
          {{"rows_of", "TABLE=ROWS", "rows that a table will have, where the data cannot tell", true},
           Ranged({"limit", "ROWS", "rows of data.train to read for measuring; 0: none"}, 0, int64_t{1} << 60),
           {"config", "FILE", "another way to name the file"},
           {"set", "path=value", "override a field", true},
           {"json", "", "as one JSON object"}},
          RunPlan};
}

}  // namespace tidegate::cli
