// `tidegate explain`: where a key lives and what its row holds, in a checkpoint or a running job.

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iostream>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/shard_client.h"
#include "common/job_config/job_config.h"
#include "common/routing_table.h"
#include "common/stable_hash.h"
#include "server/checkpoint/loaded_checkpoint.h"
#include "server/table/row_layout.h"

DEFINE_string(table, "", "");

namespace tidegate::cli {
namespace {

struct Question {
  std::optional<std::string> feature;  // of "feature=value"
  std::string value;
  Key key = 0;
  TableSpec table;
};

struct Answer {
  ShardId shard = 0;
  uint32_t shards = 1;
  std::string server;  // of a running job
  bool has_row = false;
  std::optional<uint32_t> waiting;  // samples of a key that is not admitted yet
  std::optional<RowHeader> header;  // of a checkpoint
  std::vector<float> values;
  bool reads_oov = false;  // in place of values: not admitted, in a table with FEATURE_OOV
};

absl::StatusOr<Key> ParseKey(const std::string& text) {
  Key key = 0;
  const bool hex = text.rfind("0x", 0) == 0;
  const char* begin = text.data() + (hex ? 2 : 0);
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, key, hex ? 16 : 10);
  if (error != std::errc() || stop != end || begin == end) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no key (a number, 0x and hex digits) and no feature=value"));
  }
  return key;
}

absl::StatusOr<TableSpec> TableNamed(const std::string& name, const std::vector<TableSpec>& tables) {
  std::vector<std::string> names;
  for (const TableSpec& t : tables) {
    if (t.name() == name) return t;
    names.push_back(t.name());
  }
  return absl::InvalidArgumentError(absl::StrCat("no table \"", name, "\"", DidYouMean(name, names), "; there are ", absl::StrJoin(names, ", ")));
}

// `job` is null where no config is known.
absl::StatusOr<Question> Ask(const std::string& text, const JobConfig* job, const std::vector<TableSpec>& tables) {
  Question question;
  const size_t equals = text.find('=');
  std::string table = FLAGS_table;
  if (equals == std::string::npos) {
    auto key = ParseKey(text);
    if (!key.ok()) return key.status();
    question.key = *key;
    if (table.empty() && !tables.empty()) table = tables[0].name();
  } else {
    if (job == nullptr) return absl::InvalidArgumentError("feature=value needs the job's config beside --scheduler: --config=FILE");
    question.feature = text.substr(0, equals);
    question.value = text.substr(equals + 1);
    std::vector<std::string> names;
    const FeatureConfig* found = nullptr;
    for (const FeatureConfig& f : job->feature()) {
      if (!f.has_table()) continue;
      names.push_back(f.name());
      if (f.name() == *question.feature) found = &f;
    }
    if (found == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("no feature \"", *question.feature, "\" that looks rows up", DidYouMean(*question.feature, names)));
    }
    const uint64_t salt = SaltOf(found->salt());
    question.key = question.value.empty() ? MissingKey(salt) : FeatureKey(salt, question.value);
    if (found->id().hash_buckets() > 0) question.key %= found->id().hash_buckets();
    table = found->table();
  }
  auto spec = TableNamed(table, tables);
  if (!spec.ok()) return spec.status();
  question.table = *std::move(spec);
  return question;
}

template <typename T>
T At(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

absl::StatusOr<Answer> AskCheckpoint(const LoadedCheckpoint& checkpoint, const Question& question) {
  Answer answer;
  answer.shards = checkpoint.manifest().shards();
  auto layout = RowLayout::Create(question.table);
  if (!layout.ok()) return layout.status();
  answer.values.resize(layout->width());
  const Key key = question.key;
  if (absl::Status s = checkpoint.Gather(question.table.id(), std::span<const Key>(&key, 1), std::span<float>(answer.values)); !s.ok()) return s;
  const std::string record = checkpoint.Record(question.table.id(), key);  // docs/formats.md
  constexpr size_t kHead = sizeof(Key) + sizeof(uint32_t);
  if (record.size() < kHead) return answer;
  if (At<uint32_t>(record, sizeof(Key)) != 0) {
    answer.waiting = At<uint32_t>(record, kHead);
    return answer;
  }
  answer.has_row = true;
  answer.header = RowHeader{At<uint32_t>(record, kHead), At<uint32_t>(record, kHead + 4), At<uint32_t>(record, kHead + 8),
                            At<uint32_t>(record, kHead + 12)};
  return answer;
}

void Locate(const Question& question, Answer* answer) {
  answer->shard = ShardOfHash(PlacementHash(question.table.id(), question.key), std::countr_zero(answer->shards));
}

// Values by part.
std::vector<std::pair<std::string, std::vector<float>>> Parts(const Question& question, const Answer& answer) {
  std::vector<std::pair<std::string, std::vector<float>>> parts;
  if (answer.reads_oov) return parts;
  size_t at = 0;
  for (const PartSpec& part : question.table.parts()) {
    const size_t end = std::min(at + part.dim(), answer.values.size());
    parts.emplace_back(part.name(), std::vector<float>(answer.values.begin() + static_cast<long>(at), answer.values.begin() + static_cast<long>(end)));
    at = end;
  }
  return parts;
}

std::string StateOf(const Answer& answer) {
  if (answer.reads_oov) {
    const std::string seen = answer.waiting ? absl::StrCat("not admitted yet: seen in ", *answer.waiting, " samples") : "no row";
    return seen + "; its feature's out-of-vocabulary row is read instead";
  }
  if (answer.waiting) return absl::StrCat("not admitted yet: seen in ", *answer.waiting, " samples");
  if (answer.header) return "a row";
  return answer.server.empty() ? "no row: it answers with its initialiser" : "as a pull answers (a key without a row: its initialiser)";
}

std::string ClockText(uint32_t stored) { return stored == 0 ? "before the first" : absl::StrCat(ClockOf(stored)); }

std::string AnswerText(const Question& question, const Answer& answer) {
  std::string out;
  if (question.feature) {
    absl::StrAppend(&out, "feature  ", *question.feature, " = ", question.value.empty() ? "(missing)" : "\"" + question.value + "\"", "\n");
  }
  absl::StrAppendFormat(&out, "key      %u (0x%016x)\n", question.key, question.key);
  absl::StrAppendFormat(&out, "table    %s, id %u\n", question.table.name(), question.table.id());
  absl::StrAppendFormat(&out, "placed   hash 0x%016x, shard %u of %u\n", PlacementHash(question.table.id(), question.key), answer.shard, answer.shards);
  if (!answer.server.empty()) absl::StrAppend(&out, "server   ", answer.server, "\n");
  absl::StrAppend(&out, "state    ", StateOf(answer), "\n");
  if (answer.header) {
    absl::StrAppendFormat(&out, "touches  %u samples, %u updates, admitted at clock %s, last update at clock %s\n", answer.header->touches,
                          answer.header->applications, ClockText(answer.header->first_clock), ClockText(answer.header->last_clock));
  }
  for (const auto& [name, values] : Parts(question, answer)) {
    absl::StrAppendFormat(&out, "%-8s", name);
    for (const float v : values) absl::StrAppendFormat(&out, " %.6g", v);
    out += "\n";
  }
  return out;
}

std::string AnswerJson(const Question& question, const Answer& answer) {
  JsonObject json;
  if (question.feature) json.Text("feature", *question.feature).Text("value", question.value);
  json.Text("key", absl::StrCat(question.key))
      .Text("table", question.table.name())
      .Text("placement_hash", absl::StrFormat("%016x", PlacementHash(question.table.id(), question.key)))
      .Integer("shard", answer.shard)
      .Integer("shards", answer.shards);
  if (!answer.server.empty()) json.Text("server", answer.server);
  if (answer.server.empty()) json.Bool("row", answer.has_row);
  if (answer.reads_oov) json.Bool("reads_out_of_vocabulary", true);
  if (answer.waiting) json.Integer("samples_before_admission", *answer.waiting);
  if (answer.header) {
    json.Integer("touches", answer.header->touches)
        .Integer("updates", answer.header->applications)
        .Integer("first_clock", ClockOf(answer.header->first_clock))
        .Integer("last_clock", ClockOf(answer.header->last_clock));
  }
  JsonObject values;
  for (const auto& [name, part] : Parts(question, answer)) {
    std::vector<std::string> numbers;
    for (const float v : part) numbers.push_back(JsonNumber(v));
    values.Raw(name, JsonArray(numbers));
  }
  return json.Raw("values", values.Build()).Build();
}

absl::Status ExplainByCheckpoint(const std::string& text, Question* question, Answer* answer) {
  auto checkpoint = LoadedCheckpoint::Load(RealFileSystem(), FLAGS_checkpoint);
  if (!checkpoint.ok()) return checkpoint.status();
  JobConfig job;
  if (!job.ParseFromString(checkpoint->manifest().job_config())) return absl::DataLossError(FLAGS_checkpoint + "/MANIFEST holds no job config");
  const auto& tables = checkpoint->manifest().tables();
  auto asked = Ask(text, &job, {tables.begin(), tables.end()});
  if (!asked.ok()) return asked.status();
  auto answered = AskCheckpoint(*checkpoint, *asked);
  if (!answered.ok()) return answered.status();
  *question = *std::move(asked);
  *answer = *std::move(answered);
  return absl::OkStatus();
}

absl::Status ExplainByScheduler(const std::string& text, Question* question, Answer* answer) {
  auto cluster = FetchRouting(FLAGS_scheduler);
  if (!cluster.ok()) return cluster.status();
  JobConfig job;
  if (!FLAGS_config.empty()) {
    auto loaded = LoadJobConfig(FLAGS_config);
    if (!loaded.ok()) return loaded.status();
    job = *std::move(loaded);
  }
  auto asked = Ask(text, FLAGS_config.empty() ? nullptr : &job, cluster->tables);
  if (!asked.ok()) return asked.status();
  *question = *std::move(asked);
  auto routing = Routing::FromProto(cluster->routing);
  if (!routing.ok()) return routing.status();
  answer->shards = routing->shards();
  Locate(*question, answer);
  answer->server = routing->servers()[routing->ServerOfShard(answer->shard)].address;
  auto values = PullRow(answer->server, question->table.id(), question->key);
  if (!values.ok()) return values.status();
  answer->values = *std::move(values);
  return absl::OkStatus();
}

int RunExplain(const Arguments& arguments) {
  if (arguments.positional.size() != 1 || FLAGS_checkpoint.empty() == FLAGS_scheduler.empty()) {
    std::cerr << "usage: tidegate explain KEY|feature=value --checkpoint=DIR|--scheduler=HOST:PORT [--table=NAME]\n";
    return kUsage;
  }
  Question question;
  Answer answer;
  const std::string& text = arguments.positional[0];
  const absl::Status status = FLAGS_scheduler.empty() ? ExplainByCheckpoint(text, &question, &answer) : ExplainByScheduler(text, &question, &answer);
  if (!status.ok()) {
    std::cerr << "tidegate explain: " << status.message() << "\n";
    return kFailed;
  }
  Locate(question, &answer);
  if (question.table.unadmitted() == FEATURE_OOV) {
    answer.reads_oov = std::all_of(answer.values.begin(), answer.values.end(), [](float x) { return std::isnan(x); });
  }
  std::cout << (FLAGS_json ? AnswerJson(question, answer) + "\n" : AnswerText(question, answer));
  return kOk;
}

}  // namespace

Command ExplainCommand() {
  return {"explain",
          "KEY|feature=value",
          "where a key lives and what its row holds, in a checkpoint or a running job",
          {{"checkpoint", "DIR", "the checkpoint's folder"},
           {"scheduler", "HOST:PORT[,...]", "or a running job's scheduler; its servers know values, not touches"},
           {"table", "NAME", "of KEY (default: the first)"},
           {"config", "FILE", "with --scheduler, for feature=value: the job's config"},
           {"json", "", "as one JSON object"}},
          RunExplain};
}

}  // namespace tidegate::cli
