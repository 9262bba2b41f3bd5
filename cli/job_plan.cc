#include "cli/job_plan.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <unordered_set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/job_config/job_config.h"
#include "server/table/table_group.h"
#include "worker/data/readers.h"
#include "worker/data/text_rows.h"
#include "worker/model/backend.h"
#include "worker/model/block.h"
#include "worker/model/graph.h"
#include "worker/model/model.h"
#include "worker/model/table_specs.h"

namespace tidegate::cli {
namespace {

constexpr size_t kLineSampleBytes = 1 << 20;

std::string KindOf(const BlockConfig& block) {
  const auto* field = BlockConfig::descriptor()->FindFieldByNumber(static_cast<int>(block.kind_case()));
  return field == nullptr ? "" : field->name();
}

// Multiplications with 2-D parameters twice (and add), everything else once an element of the inputs.
void CountBlock(const Block& block, NodePlanReport* node, double input_elements) {
  node->flops = input_elements;
  for (const DenseParameter& p : block.parameters()) {
    uint64_t elements = 1;
    for (const uint64_t s : p.shape) elements *= s;
    node->parameters += elements;
    node->flops += static_cast<double>(elements) * (p.shape.size() == 2 ? 2 : 1);
  }
}

absl::Status PlanNodes(const JobConfig& job, JobPlan* plan) {
  auto graph = PlanGraph(job);
  if (!graph.ok()) return graph.status();
  const std::unique_ptr<Backend> backend = MakeCpuBackend();
  std::vector<Shape> shapes;
  for (const NodePlan& node : graph->nodes) {
    NodePlanReport& report = plan->nodes.emplace_back();
    report.name = node.name;
    Shape shape{1, 1};
    if (node.kind == NodePlan::Kind::kNumeric) {
      report.kind = "number";
    } else if (node.kind == NodePlan::Kind::kLookup) {
      const LookupPlan& lookup = graph->lookups[node.index];
      shape = {lookup.sequence ? 1 : static_cast<uint32_t>(lookup.features.size()), lookup.dim};
      report.kind = lookup.sequence ? "sequence" : "lookup";
      report.flops = static_cast<double>(shape.size());
    } else {
      const BlockConfig& config = graph->blocks[node.index];
      report.kind = KindOf(config);
      std::vector<Shape> inputs;
      double input_elements = 0;
      for (const size_t in : node.inputs) {
        inputs.push_back(shapes[in]);
        report.inputs.push_back(graph->nodes[in].name);
        input_elements += static_cast<double>(shapes[in].size());
      }
      auto block = FindBlockFactory(config)(config, inputs, backend.get());
      if (!block.ok()) return absl::InvalidArgumentError(absl::StrCat("block \"", node.name, "\": ", block.status().message()));
      shape = (*block)->output();
      CountBlock(**block, &report, input_elements);
    }
    report.fields = shape.fields;
    report.dim = shape.dim;
    shapes.push_back(shape);
    plan->flops += 3 * report.flops;  // backward: gradients of inputs and of parameters
  }
  return absl::OkStatus();
}

// Rows of plain text files by the length of the first lines; 0: compressed or not there.
double RowsOfFiles(const Source& source, double* bytes_per_row) {
  auto files = ExpandFiles({source.files().begin(), source.files().end()});
  if (!files.ok() || files->empty()) return 0;
  double bytes = 0;
  for (const std::string& file : *files) {
    if (absl::EndsWith(file, ".gz") || absl::EndsWith(file, ".zst") || !std::filesystem::is_regular_file(file)) return 0;
    bytes += static_cast<double>(std::filesystem::file_size(file));
  }
  std::ifstream in((*files)[0], std::ios::binary);
  std::string head(kLineSampleBytes, 0);
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(in.gcount()));
  const auto lines = static_cast<double>(std::count(head.begin(), head.end(), '\n'));
  if (lines == 0) return 0;
  *bytes_per_row = static_cast<double>(head.rfind('\n') + 1) / lines;
  return bytes / *bytes_per_row;
}

struct Distinct {
  std::unordered_set<Key> keys;
  uint64_t at_half = 0;  // distinct in the first rows_half rows
  double per_step = 0;   // sum over steps
};

// The sample's distinct keys and what a worker's step holds.
absl::Status MeasureData(JobConfig job, const Model& model, uint64_t sample_rows, JobPlan* plan, std::vector<Distinct>* distinct) {
  job.mutable_data()->mutable_train()->set_shuffle_window(0);
  auto readers = Readers::Create(job);
  if (!readers.ok()) return readers.status();
  auto source = (*readers)->OpenTrain(1);
  if (!source.ok()) return source.status();
  Step step;
  uint64_t steps = 0;
  while (plan->rows_read < sample_rows) {
    auto more = (*source)->Next(plan->batch, &step.batch);
    if (!more.ok()) return more.status();
    if (!*more) {
      plan->rows_total = static_cast<double>(plan->rows_read);
      break;
    }
    model.Gather(&step);
    plan->rows_read += step.batch.rows;
    ++steps;
    if (plan->rows_read <= sample_rows / 2) plan->rows_half = plan->rows_read;
    for (size_t t = 0; t < distinct->size(); ++t) {
      Distinct& d = (*distinct)[t];
      d.keys.insert(step.tables[t].keys.begin(), step.tables[t].keys.end());
      d.per_step += static_cast<double>(step.tables[t].keys.size());
      if (plan->rows_half == plan->rows_read) d.at_half = d.keys.size();
    }
  }
  if (steps == 0) return absl::InvalidArgumentError("data.train has no row");
  for (Distinct& d : *distinct) d.per_step /= static_cast<double>(steps);
  if (job.data().format() != DataConfig::GENERATED) {
    plan->parse_bytes = static_cast<double>((*readers)->read_stats().bytes.load()) / static_cast<double>(plan->rows_read);
  }
  return absl::OkStatus();
}

// Heaps' law, distinct = k rows^b, through what was seen in the first rows_half rows and in all that were read.
void ExpectRows(const Distinct& distinct, const JobPlan& plan, TablePlanReport* report) {
  const auto seen = static_cast<double>(distinct.keys.size());
  const auto read = static_cast<double>(plan.rows_read);
  report->rows = seen;
  report->rows_by = plan.rows_total == read ? "all rows read" : "so far";
  if (plan.rows_total <= read || distinct.at_half == 0 || plan.rows_half == plan.rows_read) return;
  const double b = std::log(seen / static_cast<double>(distinct.at_half)) / std::log(read / static_cast<double>(plan.rows_half));
  report->rows = seen * std::pow(plan.rows_total / read, std::clamp(b, 0.0, 1.0));
  report->rows_by = "Heaps' law";
}

absl::Status PlanTable(const JobConfig& job, const TableSpec& spec, TablePlanReport* report) {
  auto layout = RowLayout::Create(spec);
  if (!layout.ok()) return layout.status();
  report->width = layout->width();
  report->row_bytes = layout->row_bytes();
  const uint32_t shards = job.cluster().shards();
  std::vector<ShardId> mine(std::max(1u, shards / std::max(1u, job.cluster().servers())));
  std::iota(mine.begin(), mine.end(), 0);
  const TableGroup group(&*layout, std::countr_zero(shards), mine);
  report->bytes_per_server = static_cast<double>(group.BytesForRows(static_cast<uint64_t>(report->rows / job.cluster().servers())));
  return absl::OkStatus();
}

void PlanDense(const TableSpec& spec, JobPlan* plan) {
  DensePlanReport& report = plan->dense.emplace_back();
  report.name = spec.name();
  report.shape.assign(spec.shape().begin(), spec.shape().end());
  report.parameters = DenseElements(spec);
  auto layout = RowLayout::Create(spec);
  if (layout.ok()) report.bytes = DenseBlocks(spec) * layout->row_bytes();
}

void AddTraffic(const std::vector<TableSpec>& specs, JobPlan* plan) {
  const auto batch = static_cast<double>(plan->batch);
  for (const TablePlanReport& t : plan->tables) {
    const double rows = t.keys_per_step / batch;
    plan->rows_per_sample += rows;
    plan->pulled_bytes += rows * (8 + 4.0 * t.width);  // key out, values back
    plan->pushed_bytes += rows * (8 + 4 + 4.0 * t.width);
  }
  for (const TableSpec& spec : specs) {
    if (spec.kind() != TableSpec::DENSE) continue;
    const auto rows = static_cast<double>(DenseBlocks(spec)) / batch;
    plan->rows_per_sample += rows * std::max(1.0, RowWidth(spec) / 16.0);
    plan->pulled_bytes += rows * (8 + 4.0 * RowWidth(spec));
    plan->pushed_bytes += rows * (8 + 4.0 * RowWidth(spec));
  }
}

}  // namespace

absl::StatusOr<JobPlan> PlanJob(const JobConfig& job, const std::map<std::string, uint64_t>& rows_of_table, uint64_t sample_rows) {
  JobPlan plan;
  plan.servers = job.cluster().servers();
  plan.workers = job.cluster().workers();
  plan.batch = std::max<uint64_t>(1, job.train().global_batch() / plan.workers);
  auto model = Model::Create(job);
  if (!model.ok()) return model.status();
  if (absl::Status s = PlanNodes(job, &plan); !s.ok()) return s;
  const bool generated = job.data().format() == DataConfig::GENERATED;
  plan.rows_total = generated ? static_cast<double>(job.data().train().rows()) : RowsOfFiles(job.data().train(), &plan.parse_bytes);
  std::vector<Distinct> distinct(static_cast<size_t>(job.table_size()));
  const absl::Status measured = sample_rows == 0 ? absl::InvalidArgumentError("--limit=0: the data was not read")
                                                 : MeasureData(job, **model, sample_rows, &plan, &distinct);
  if (!measured.ok()) plan.data_note = std::string(measured.message());
  for (const TableSpec& spec : (*model)->tables()) {
    if (spec.kind() == TableSpec::DENSE) {
      PlanDense(spec, &plan);
      continue;
    }
    TablePlanReport& report = plan.tables.emplace_back();
    const Distinct& d = distinct[spec.id()];
    report.name = spec.name();
    report.seen = d.keys.size();
    report.keys_per_step = d.per_step;
    const auto given = rows_of_table.find(spec.name());
    if (given != rows_of_table.end()) {
      report.rows = static_cast<double>(given->second);
      report.rows_by = "--rows_of";
    } else if (measured.ok()) {
      ExpectRows(d, plan, &report);
    } else {
      report.rows_by = "not known";
    }
    if (absl::Status s = PlanTable(job, spec, &report); !s.ok()) return s;
  }
  AddTraffic((*model)->tables(), &plan);
  return plan;
}

Bottleneck FindBottleneck(const JobPlan& plan) {
  Bottleneck out;
  out.parse = plan.parse_bytes > 0 ? plan.parse_bytes / kParseBytesPerSecond : NAN;
  out.wire = plan.rows_per_sample * kSecondsPerRow;
  out.compute = plan.flops / kFlopsPerSecond;
  const double parse = std::isnan(out.parse) ? 0 : out.parse;
  out.largest = out.compute >= out.wire && out.compute >= parse ? "compute" : out.wire >= parse ? "wire" : "reader";
  return out;
}

}  // namespace tidegate::cli
