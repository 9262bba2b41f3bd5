// From the config as written to the resolved one: expansion, defaults, paths.
#include <charconv>
#include <cstdlib>
#include <filesystem>

#include <google/protobuf/reflection.h>
#include <google/protobuf/repeated_ptr_field.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/job_config/check.h"
#include "common/job_config/job_config.h"
#include "common/task_metrics.h"
#include "common/strings.h"

namespace tidegate {
namespace {

constexpr int64_t kMaxExpansion = 10000;
constexpr char kDataVariable[] = "$TIDEGATE_DATA";
constexpr char kDefaultDataDirectory[] = "../shared/data";

// "C{1..26}" cut into prefix, range, suffix; no range: the text has no braces.
struct Pattern {
  std::string prefix, suffix;
  int64_t first = 0, last = -1;
  bool ranged = false;

  int64_t size() const { return ranged ? last - first + 1 : 1; }
  std::string At(int64_t i) const {
    return ranged ? absl::StrCat(prefix, first + i, suffix) : prefix;
  }
};

bool ParseNumber(std::string_view text, int64_t* value) {
  const auto r = std::from_chars(text.data(), text.data() + text.size(), *value);
  return r.ec == std::errc() && r.ptr == text.data() + text.size() && *value >= 0 &&
         *value <= 1000000000;
}

absl::StatusOr<Pattern> ParsePattern(const std::string& text) {
  Pattern p;
  const size_t open = text.find('{');
  if (open == std::string::npos) {
    p.prefix = text;
    return p;
  }
  const size_t close = text.find('}', open);
  const size_t dots = text.find("..", open);
  if (close == std::string::npos || dots == std::string::npos || dots > close ||
      text.find('{', open + 1) != std::string::npos ||
      !ParseNumber(std::string_view(text).substr(open + 1, dots - open - 1), &p.first) ||
      !ParseNumber(std::string_view(text).substr(dots + 2, close - dots - 2), &p.last)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\": expected one range such as {1..26}"));
  }
  p.ranged = true;
  if (p.last < p.first || p.size() > kMaxExpansion) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": the range must rise and have at most ",
                                                   kMaxExpansion, " elements"));
  }
  p.prefix = text.substr(0, open);
  p.suffix = text.substr(close + 1);
  return p;
}

// One written feature becomes one feature per element of its name's range.
absl::Status ExpandFeature(const FeatureConfig& written,
                           google::protobuf::RepeatedPtrField<FeatureConfig>* out) {
  auto name = ParsePattern(written.name());
  if (!name.ok()) return name.status();
  // Texts that follow the name: each has as many elements, or no range at all.
  auto column = ParsePattern(written.column());
  auto table = ParsePattern(written.table());
  auto salt = ParsePattern(written.salt());
  for (const auto* p : {&column, &table, &salt}) {
    if (!p->ok()) return p->status();
    if ((*p)->ranged && (*p)->size() != name->size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("feature \"", written.name(), "\": \"", (*p)->prefix, "{", (*p)->first, "..",
                       (*p)->last, "}\" has ", (*p)->size(), " elements, the name has ",
                       name->size()));
    }
  }
  if (name->ranged && written.has_column() && !column->ranged) {
    return absl::InvalidArgumentError(absl::StrCat(
        "feature \"", written.name(), "\": column \"", written.column(),
        "\" would be read by ", name->size(), " features; write a range"));
  }
  if (out->size() + name->size() > kMaxExpansion) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxExpansion, " features"));
  }
  for (int64_t i = 0; i < name->size(); ++i) {
    FeatureConfig* f = out->Add();
    *f = written;
    f->set_name(name->At(i));
    f->set_column(written.has_column() ? column->At(i) : f->name());
    if (written.has_table()) f->set_table(table->At(i));
    if (f->kind_case() == FeatureConfig::KIND_NOT_SET) f->mutable_id();
    if (f->has_table()) f->set_salt(written.has_salt() ? salt->At(i) : f->name());
  }
  return absl::OkStatus();
}

absl::Status ExpandNames(google::protobuf::RepeatedPtrField<std::string>* names) {
  google::protobuf::RepeatedPtrField<std::string> out;
  for (const std::string& text : *names) {
    auto p = ParsePattern(text);
    if (!p.ok()) return p.status();
    if (out.size() + p->size() > kMaxExpansion) {
      return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxExpansion, " inputs"));
    }
    for (int64_t i = 0; i < p->size(); ++i) {
      *out.Add() = p->ranged ? p->At(i) : text;
    }
  }
  names->Swap(&out);
  return absl::OkStatus();
}

// Of the block's `in`, where its kind has one.
absl::Status ExpandInputs(BlockConfig* block) {
  const auto& reflection = *block->GetReflection();
  const auto* kind = reflection.GetOneofFieldDescriptor(
      *block, block->GetDescriptor()->FindOneofByName("kind"));
  if (kind == nullptr) return absl::OkStatus();
  const auto* in = kind->message_type()->FindFieldByName("in");
  if (in == nullptr) return absl::OkStatus();
  google::protobuf::Message* message = reflection.MutableMessage(block, kind);
  auto field = message->GetReflection()->GetMutableRepeatedFieldRef<std::string>(message, in);
  google::protobuf::RepeatedPtrField<std::string> names;
  for (int i = 0; i < field.size(); ++i) *names.Add() = field.Get(i);
  absl::Status status = ExpandNames(&names);
  if (!status.ok()) return status;
  field.Clear();
  for (const std::string& name : names) field.Add(name);
  return absl::OkStatus();
}

std::string MonitorName(const TaskConfig& task, int metric) {
  return absl::StrCat("valid/", task.name(), "/", MetricName(task, static_cast<TaskConfig::Metric>(metric)));
}

class Resolver {
 public:
  explicit Resolver(JobConfig* config) : config_(*config) {}

  std::vector<std::string> Run(bool* expanded) {
    Features();
    Sources();
    ExportPaths();
    ModelDefaults();
    Monitors();
    if (config_.dense().optimizer_case() == DenseConfig::OPTIMIZER_NOT_SET) {
      config_.mutable_dense()->mutable_adam();
    }
    ClusterConfig* cluster = config_.mutable_cluster();
    if (cluster->shards() == 0 && cluster->servers() >= 1 && cluster->servers() <= 65536) {
      uint32_t shards = 1;
      while (shards < 64 * static_cast<uint64_t>(cluster->servers()) && shards < 65536) shards *= 2;
      cluster->set_shards(shards);
    }
    *expanded = problems_.empty();
    if (*expanded) CheckJobConfig(config_, &problems_);
    return problems_;
  }

 private:
  void Note(const absl::Status& status) {
    if (!status.ok()) problems_.emplace_back(status.message());
  }

  void Features() {
    google::protobuf::RepeatedPtrField<FeatureConfig> expanded;
    for (const FeatureConfig& f : config_.feature()) Note(ExpandFeature(f, &expanded));
    config_.mutable_feature()->Swap(&expanded);
  }

  void ExportPaths() {
    if (!config_.has_train()) return;
    for (InitFrom& init : *config_.mutable_train()->mutable_init_from()) {
      if (init.export_().empty()) continue;  // check.cc says so
      auto path = ResolvePath(init.export_());
      path.ok() ? init.set_export_(*path) : Note(path.status());
    }
  }

  void Sources() {
    if (!config_.has_data()) return;
    DataConfig* data = config_.mutable_data();
    for (Source* s : {data->has_train() ? data->mutable_train() : nullptr,
                      data->has_valid() ? data->mutable_valid() : nullptr}) {
      if (s == nullptr) continue;
      for (std::string& file : *s->mutable_files()) {
        if (file == "-") continue;  // standard input
        auto path = ResolvePath(file);
        if (path.ok()) {
          file = *path;
        } else {
          Note(path.status());
        }
      }
    }
    if (!data->has_full_ranking()) return;
    for (std::string& file : *data->mutable_full_ranking()->mutable_files()) {
      auto path = ResolvePath(file);
      path.ok() ? file = *path, void() : Note(path.status());
    }
  }

  void ModelDefaults() {
    if (!config_.has_model()) return;
    ModelConfig* model = config_.mutable_model();
    for (BlockConfig& block : *model->mutable_block()) Note(ExpandInputs(&block));
    if (model->has_preset()) {
      PresetConfig* preset = model->mutable_preset();
      for (auto* names : {preset->mutable_numeric(), preset->mutable_query(), preset->mutable_item(),
                          preset->mutable_query_mlp(), preset->mutable_item_mlp()}) {
        Note(ExpandNames(names));
      }
      if (model->task().empty()) model->add_task();
    }
    for (TaskConfig& task : *model->mutable_task()) {
      if (!task.has_logit() && !task.has_probability() && model->has_preset()) task.set_logit("logit");
      if (task.loss() == TaskConfig::SOFTMAX && model->preset().kind() == PresetConfig::TWO_TOWER) {
        if (!task.has_query()) task.set_query("query");
        if (!task.has_item()) task.set_item("item");
        if (!task.has_cosine()) task.set_cosine(model->preset().cosine());
      }
      if (!task.has_name()) task.set_name("click");
      if (task.metric().empty()) {
        for (TaskConfig::Metric m : DefaultMetrics(task.loss())) task.add_metric(m);
      }
    }
  }

  void Monitors() {
    if (!config_.has_train() || config_.model().task().empty()) return;
    const TaskConfig& task = config_.model().task(0);
    const std::string first = MonitorName(task, task.metric(0));
    TrainConfig* train = config_.mutable_train();
    if (train->has_plateau() && !train->plateau().has_monitor()) {
      train->mutable_plateau()->set_monitor(first);
    }
    if (train->has_stop() && !train->stop().has_monitor()) {
      train->mutable_stop()->set_monitor(first);
    }
  }

  JobConfig& config_;
  std::vector<std::string> problems_;
};

}  // namespace

absl::StatusOr<std::string> ResolvePath(std::string_view path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path here = fs::current_path(error);
  if (error) return absl::InternalError("the current directory cannot be read");
  if (path.empty()) return absl::InvalidArgumentError("a file's path is empty");
  if (path.find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("a file's path holds a NUL byte");
  }
  const std::string_view variable(kDataVariable);
  if (path.substr(0, variable.size()) == variable &&
      (path.size() == variable.size() || path[variable.size()] == '/')) {
    const char* set = std::getenv(kDataVariable + 1);
    fs::path root;
    if (set != nullptr && *set != '\0') {
      root = set;
    } else if (fs::is_directory(here / kDefaultDataDirectory, error)) {
      root = here / kDefaultDataDirectory;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat(ToAbsl(path), ": set the environment variable TIDEGATE_DATA to the directory of "
                       "the data sets (it is not set, and there is no ", kDefaultDataDirectory,
                       " beside ", here.string(), ")"));
    }
    std::string_view rest = path.substr(variable.size());
    while (!rest.empty() && rest.front() == '/') rest.remove_prefix(1);
    return (fs::path(here) / root / fs::path(rest)).lexically_normal().string();
  }
  return (here / fs::path(path)).lexically_normal().string();
}

std::vector<std::string> ResolveProblems(JobConfig* config, bool* expanded) {
  return Resolver(config).Run(expanded);
}

absl::Status ResolveJobConfig(JobConfig* config) {
  bool expanded = false;
  const std::vector<std::string> problems = ResolveProblems(config, &expanded);
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
}

absl::StatusOr<Staleness> ParseStaleness(std::string_view text) {
  Staleness s;
  if (text == "inf") {
    s.sync = false;
    s.infinite = true;
    return s;
  }
  if (!ParseNumber(text, &s.bound)) {
    return absl::InvalidArgumentError(
        absl::StrCat("staleness \"", ToAbsl(text), "\": expected 0, a number of clocks, or inf"));
  }
  s.sync = s.bound == 0;
  return s;
}

absl::StatusOr<Monitor> ParseMonitor(std::string_view text, const JobConfig& config) {
  const std::vector<std::string> pieces = absl::StrSplit(ToAbsl(text), '/');
  std::vector<std::string> known;
  for (int t = 0; t < config.model().task_size(); ++t) {
    const TaskConfig& task = config.model().task(t);
    for (int m : task.metric()) {
      known.push_back(MonitorName(task, m));
      if (known.back() == text) {
        Monitor monitor;
        monitor.dataset = "valid";
        monitor.task = static_cast<size_t>(t);
        monitor.metric = static_cast<TaskConfig::Metric>(m);
        return monitor;
      }
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("monitor \"", ToAbsl(text),
                                                 "\" names no metric; there are ",
                                                 absl::StrJoin(known, ", "),
                                                 DidYouMean(text, known)));
}

}  // namespace tidegate
