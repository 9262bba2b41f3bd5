#include "common/job_config/job_config.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <google/protobuf/util/message_differencer.h>

namespace tidegate {
namespace {

using google::protobuf::util::MessageDifferencer;

const char kGood[] = R"(name: "deepfm"
seed: 7
data {
  format: CRITEO_TSV
  train { files: "train/*.gz" shuffle_window: 1000 }
  valid { files: "/abs/valid" }
}
feature { name: "I{1..3}" numeric { transform: LOG2_BUCKET } table: "emb" }
feature { name: "cat{1..2}" column: "C{5..6}" id {} table: "emb" }
feature { name: "raw" column: "I7" numeric { transform: LOG1P } }
table {
  name: "emb"
  part { name: "w" dim: 1 ftrl { alpha: .05 l1: 1 } }
  part { name: "v" dim: 16 init { normal: 1e-4 } adam { lr: 1e-3 } l2 { weight: 1e-5 } }
}
model {
  block { name: "lin" sum { in: "emb.w" } }
  task { logit: "lin" }
}
train { epochs: 2 staleness: "4" plateau {} stop { monitor: "valid/click/logloss" } }
cluster { servers: 3 }
)";

JobConfig Good() {
  auto c = ParseJobConfig(kGood, "good.textproto");
  INFO(c.status().ToString());
  REQUIRE(c.ok());
  return *c;
}

std::string ErrorOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
  auto c = ParseJobConfig(text, "job.textproto", overrides);
  REQUIRE_FALSE(c.ok());
  CHECK(c.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(c.status().message());
}

std::string Replaced(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("ranges in feature names expand and columns follow them") {
  const JobConfig c = Good();
  REQUIRE(c.feature_size() == 6);
  CHECK(c.feature(0).name() == "I1");
  CHECK(c.feature(2).column() == "I3");
  CHECK(c.feature(2).salt() == "I3");
  CHECK(c.feature(4).name() == "cat2");
  CHECK(c.feature(4).column() == "C6");
  CHECK(c.feature(5).salt().empty());
}

TEST_CASE("defaults are filled in") {
  const JobConfig c = Good();
  CHECK(c.dense().has_adam());
  CHECK(c.cluster().shards() == 256);
  CHECK(c.model().task(0).metric_size() == 3);
  CHECK(c.train().plateau().monitor() == "valid/click/auc");
  CHECK(std::filesystem::path(c.data().train().files(0)).is_absolute());
  CHECK(c.data().valid().files(0) == "/abs/valid");
}

TEST_CASE("resolving a resolved config changes nothing, also through its text") {
  const JobConfig c = Good();
  JobConfig again = c;
  REQUIRE(ResolveJobConfig(&again).ok());
  CHECK(MessageDifferencer::Equals(c, again));
  auto parsed = ParseJobConfig(JobConfigText(c), "text");
  REQUIRE(parsed.ok());
  CHECK(MessageDifferencer::Equals(c, *parsed));
  CHECK(JobConfigFingerprint(c) == JobConfigFingerprint(*parsed));
}

TEST_CASE("the fingerprint differs when a value does") {
  auto other = ParseJobConfig(kGood, "x", std::vector<std::string>{"train.epochs=3"});
  REQUIRE(other.ok());
  CHECK(JobConfigFingerprint(Good()) != JobConfigFingerprint(*other));
}

TEST_CASE("unknown fields are named with line, column and the nearest field, all of them") {
  const std::string e = ErrorOf("name: \"a\"\ndata {\n  fromat: LIBSVM\n}\ntrane { epochs: 1 }\n");
  CHECK(e.find("job.textproto:3:") != std::string::npos);
  CHECK(e.find("no field \"fromat\" in DataConfig (did you mean \"format\"?)") != std::string::npos);
  CHECK(e.find("job.textproto:5:") != std::string::npos);
  CHECK(e.find("did you mean \"train\"") != std::string::npos);
  CHECK(ErrorOf("data {\n  sequential: true\n}\n").find("no field \"sequential\" in DataConfig (it is in train { sequential: ... }, "
                                                          "valid { sequential: ... })") != std::string::npos);
}

TEST_CASE("an unknown enum value names its place and the choices") {
  const std::string e = ErrorOf("data {\n format: LIBSMV }");
  CHECK(e.find("job.textproto:2:") != std::string::npos);
  CHECK(e.find("did you mean \"LIBSVM\"") != std::string::npos);
  CHECK(e.find("CRITEO_TSV") != std::string::npos);
  // Blocks have a `kind` of other values.
  const std::string kind = ErrorOf("model { preset { kind: DEEPFN } }");
  CHECK(kind.find("did you mean \"DEEPFM\"") != std::string::npos);
  CHECK(kind.find("WIDE_DEEP") != std::string::npos);
  CHECK(kind.find("MEAN") == std::string::npos);
}

TEST_CASE("overrides reach fields by index, by name and by message") {
  const std::vector<std::string> overrides = {
      "train.epochs=5",          "train.staleness=inf",       "table.emb.part.v.adam.lr=0.5",
      "table.0.part.0.dim=2",    "cluster.workers=2",         "data.valid.files=/v",
      "model.preset={kind: LR wide: \"emb.w\"}",              "dense={sgd{lr:.25}}",
      "data.train.files=[\"/a\",\"/b\"]"};
  auto c = ParseJobConfig(kGood, "x", overrides);
  INFO(c.status().ToString());
  REQUIRE(c.ok());
  CHECK(c->train().epochs() == 5);
  CHECK(c->train().staleness() == "inf");
  CHECK(c->table(0).part(1).adam().lr() == 0.5f);
  CHECK(c->table(0).part(0).dim() == 2);
  CHECK(c->data().valid().files_size() == 1);
  CHECK(c->data().valid().files(0) == "/v");
  CHECK(c->dense().sgd().lr() == 0.25f);
  CHECK(c->model().preset().wide() == "emb.w");
  CHECK(c->data().train().files_size() == 2);
}

TEST_CASE("a bad override says which and why") {
  const auto error = [](const std::string& o) { return ErrorOf(kGood, {o}); };
  CHECK(error("train.epoch=1").find("did you mean \"epochs\"") != std::string::npos);
  CHECK(error("train.epochs").find("expected path=value") != std::string::npos);
  CHECK(error("train.epochs=abc").find("--set train.epochs=abc") != std::string::npos);
  CHECK(error("table.emp.part.v.dim=1").find("did you mean \"emb\"") != std::string::npos);
  CHECK(error("table.7.name=x").find("has 1 elements") != std::string::npos);
  CHECK(error("train.epochs.x=1").find("has no fields") != std::string::npos);
  CHECK(error("train=3").find("is a message") != std::string::npos);
  CHECK(error("table.emb=3").find("name a field of") != std::string::npos);
}

TEST_CASE("values out of range are refused by the name of their field") {
  struct Case { const char *override_text, *message; };
  const Case cases[] = {
      {"table.emb.part.v.dim=0", "dim is 0"},
      {"table.emb.part.v.dim=5000", "dim is 5000"},
      {"table.emb.part.v.adam.lr=0", "adam.lr is 0"},
      {"table.emb.part.v.adam.lr=nan", "adam.lr is nan"},
      {"table.emb.part.v.adam.lr=1e7", "adam.lr is 1e+07"},
      {"table.emb.part.v.lr_scale=1e10", "lr_scale x the optimizer's rate is 1e+07"},
      {"table.emb.part.v.l2.weight=1e7", "l2.weight is 1e+07"},
      {"table.emb.part.v.adam.epsilon=1e-38", "adam.epsilon is"},
      {"table.emb.part.v.adam.lr=inf", "adam.lr is inf"},
      {"table.emb.part.v.adam.beta1=1", "adam.beta1 is 1"},
      {"table.emb.part.v.l2.weight=-1", "l2.weight is -1"},
      {"table.emb.part.w.name=v", "\"v\" is there twice"},
      {"table.emb.part.w.name=a.b", "write letters"},
      {"table.emb.admit_probability=1.5", "admit_probability is 1.5"},
      {"train.epochs=0", "train.epochs is 0"},
      {"train.staleness=-1", "train.staleness"},
      {"train.staleness=two", "expected 0, a number"},
      {"train.global_batch=0", "train.global_batch is 0"},
      {"train.plateau.factor=1", "train.plateau.factor is 1"},
      {"model.task.0.metric=[GAUC]", "metric GAUC needs a group id with every row of data.valid: name its column in data.group"},
      {"model.task.0.metric=[AUC, AUC]", "metric AUC is there twice"},
      {"model.task.0.metric=[AUK]", "did you mean \"AUC\"?"},
      {"model.task.0.top_k=5", "top_k is for metrics HR, NDCG and RECALL"},
      {"train.schedule.kind=STEP", "train.schedule.every is missing: STEP"},
      {"train.schedule.every=10", "train.schedule.every is for kind STEP or COSINE"},
      {"train.schedule.factor=0.5", "train.schedule.factor is for kind STEP"},
      {"train.schedule.min_scale=2", "train.schedule.min_scale is 2"},
      {"table.emb.part.v.clip.norm=-1", "table \"emb\": part \"v\": clip.norm is -1"},
      {"table.emb.part.v.adamw.beta1=1", "table \"emb\": part \"v\": adamw.beta1 is 1"},
      {"table.emb.part.w.l2={weight: 1 scope: ALL_LAZY}", "part \"w\": l2 of scope ALL_LAZY does not go with ftrl"},
      {"dense.clip.value=nan", "dense.clip.value is nan"},
      {"dense.adamw.weight_decay=-1", "dense.adamw.weight_decay is -1"},
      {"train.plateau.monitor=valid/click/acu", "did you mean \"valid/click/auc\""},
      {"train.stop.monitor=train/click/auc", "names no metric"},
      {"cluster.shards=3", "a power of two"},
      {"cluster.shards=2", "fewer than cluster.servers"},
      {"data.train.files=-", "needs sequential: true"},
      {"data.valid.sequential=true", "only data.train"},
      {"train.init_from={}", "train.init_from.export is missing"},
      {"train.checkpoint.every_s=-1", "train.checkpoint.every_s is -1"},
      {"train.checkpoint.keep=0", "train.checkpoint.keep is 0"},
      {"cluster.replicas=0", "from 1 to 16"},
      {"cluster.replicas=17", "from 1 to 16"},
      {"cluster.replicas=2", "replicas above 1 go with SYNC or ASYNC"},
      {"cluster.durability=SYNC", "replicas above 1 go with SYNC or ASYNC"},
      {"cluster.durability=ASYNC", "one copy with NONE"},
      {"cluster.on_data_loss=RETRY", "RETRY"},
      {"train.checkpoint.full_every=0", "train.checkpoint.full_every is 0"},
      {"train.checkpoint.full_every=1001", "train.checkpoint.full_every is 1001"},
      {"cluster.message_limit_bytes=10", "message_limit_bytes is 10"},
      {"cluster.message_limit_bytes=262143", "from 262144"},
      {"feature.1.table=emp", "did you mean \"emb\""},
      {"feature.1.id={multi_valued: true}", "no columns of many values"},
      {"feature.raw.numeric.transform=LOG2_BUCKET", "needs a table"},
      {"feature.raw.column=I14", "I1 to I13"},
      {"feature.raw.name=I2", "feature \"I2\" is there twice"},
      {"data.format=UNSET", "data.format is missing"},
      {"data.csv={delimiter: \";\"}", "data.csv is for format CSV"},
      {"data.weight=C1", "data.weight: no numeric column \"C1\""},
      {"data.group=X", "data.group: no column \"X\""},
      {"data.timestamp=*", "data.timestamp"},
      {"data.negatives={column: \"C1\" values: 5}", "needs columns with names"},
      {"data.valid_format=UNSET", "valid_format is UNSET"},
      {"data.format=NCF_NEGATIVES", "is a format of data.valid"},
      {"model.task.0.label=I14", "label: no numeric column \"I14\""},
      {"feature.1.id={overlong: REFUSE}", "REFUSE needs max_values"},
      {"feature.1.id={separator: \"||\"}", "separator: one byte"},
      {"model.task=[]", "model.task is missing"},
      {"dense.block=0", "dense.block is 0"},
      {"model.preset.dropout=1", "dropout is 1"},
      {"model.block=[{name: 'd' dropout {in: 'I1' rate: 1}}]", "dropout.rate is 1"},
      {"model.block=[{name: 'd' cosine {in: 'I1' scale: nan}}]", "cosine.scale must be finite"},
      {"model.task.0.weight=-1", "weight is -1"},
      {"train.clip_worker_norm=-1", "train.clip_worker_norm is -1"},
      {"table.0.part=[]", "no part"},
  };
  for (const Case& c : cases) {
    INFO(c.override_text);
    const std::string e = ErrorOf(kGood, {c.override_text});
    INFO(e);
    CHECK(e.find(c.message) != std::string::npos);
  }
}

TEST_CASE("drop_slowest is refused above staleness 0, and a warning says where it is cut short") {
  CHECK_THAT(ErrorOf(kGood, {"train.drop_slowest=2"}), Catch::Contains("train.drop_slowest is 2 with train.staleness \"4\""));
  const std::vector<std::string> sets = {"train.drop_slowest=2", "train.staleness=0", "cluster.workers=3"};
  auto c = ParseJobConfig(kGood, "good.textproto", sets);
  INFO(c.status().ToString());
  REQUIRE(c.ok());
  CHECK(JobConfigWarnings(*c).empty());
  c->mutable_cluster()->set_workers(2);
  REQUIRE(JobConfigWarnings(*c).size() == 1);
  CHECK_THAT(JobConfigWarnings(*c)[0], Catch::Contains("train.drop_slowest is 2 with cluster.workers 2: as 1"));
  c->mutable_cluster()->set_workers(1);
  REQUIRE(JobConfigWarnings(*c).size() == 1);
  CHECK_THAT(JobConfigWarnings(*c)[0], Catch::Contains("no effect"));
}

TEST_CASE("durability ASYNC needs copies, and a staleness above 0") {
  const std::vector<std::string> async = {"cluster.replicas=2", "cluster.durability=ASYNC"};
  for (const char* staleness : {"4", "inf"}) {
    std::vector<std::string> sets = async;
    sets.push_back(std::string("train.staleness=") + staleness);
    CHECK(ParseJobConfig(kGood, "job.textproto", sets).status() == absl::OkStatus());
  }
  std::vector<std::string> synchronous = async;
  synchronous.push_back("train.staleness=0");
  CHECK(ErrorOf(kGood, synchronous).find("a clock that workers have passed could be lost") != std::string::npos);
}

TEST_CASE("csv columns are checked where the config names them") {
  const std::string csv = R"(data { format: CSV csv { delimiter: "\t" header: false column: ["user", "item"] }
      train { files: "/a" } valid { files: "/v" } valid_format: NCF_NEGATIVES group: "user"
      negatives { column: "item" values: 10 exclude_seen_by: "user" } }
    feature { name: "user" table: "t" } feature { name: "item" table: "t" }
    table { name: "t" part { name: "w" dim: 1 sgd {} } }
    model { preset { kind: LR wide: "t.w" } })";
  CHECK(ParseJobConfig(csv, "job.textproto").status() == absl::OkStatus());
  const std::pair<const char*, const char*> bad[] = {
      {"data.csv.delimiter=ab", "data.csv.delimiter: one byte"},
      {"data.csv.column=[]", "need the names of their columns"},
      {"data.csv.column=[\"user\",\"user\"]", "\"user\" is there twice"},
      {"data.csv.column=[\"user\",\"\"]", "a name is empty"},
      {"data.negatives.column=itm", "did you mean \"item\""},
      {"data.negatives.exclude_seen_by=usr", "did you mean \"user\""},
      {"data.negatives.per_positive=0", "per_positive is 0"},
      {"data.negatives.per_positive=1001", "per_positive is 1001"},
      {"data.negatives.values=0", "say how many"},
      {"train.global_batch=4", "fewer samples than a positive and its negatives"},
      {"data.train.sequential=true", "train.staleness above 0"},
      {"data.train.sequential=true", "exclude_seen_by would read the stream twice"},
      {"data.format=NPZ", "csv is for format CSV"},
      {"feature.user.column=nobody", "CSV has user, item"},
      {"data.weight=w", "data.weight: no numeric column \"w\": CSV has user, item"},
      {"data.valid_format=CSV", "label: no numeric column \"label\": CSV has user, item"},
      {"feature.user.id={separator: \"\\t\"}", "separator is data.csv.delimiter"}};
  for (const auto& [text, message] : bad) {
    INFO(text);
    const std::string e = ErrorOf(csv, {text});
    INFO(e);
    CHECK(e.find(message) != std::string::npos);
  }
}

TEST_CASE("full ranking is checked for what it needs") {
  const std::string text = R"(data { format: CSV csv { column: ["user", "item", "kind", "label"] } train { files: "/a" }
      valid { files: "/v" } group: "user" full_ranking { column: "item" attribute: "kind" } }
    feature { name: "user" table: "t" } feature { name: "item" table: "t" } feature { name: "kind" table: "t" }
    table { name: "t" part { name: "w" dim: 1 sgd {} } }
    model { preset { kind: LR wide: "t.w" } task { name: "like" metric: [HR, RECALL] } })";
  CHECK(ParseJobConfig(text, "job.textproto").status() == absl::OkStatus());
  auto files = ParseJobConfig(text, "job.textproto", std::vector<std::string>{"data.full_ranking.files=[\"items\"]"});
  REQUIRE(files.status() == absl::OkStatus());
  CHECK(files->data().full_ranking().files(0).front() == '/');
  const std::pair<const char*, const char*> bad[] = {
      {"data.full_ranking.column=itm", "no column \"itm\": CSV has user, item, kind, label (did you mean \"item\"?)"},
      {"data.full_ranking.column=label", "no feature reads column \"label\""},
      {"data.full_ranking.column=user", "\"user\" is there twice"},
      {"data.full_ranking.column=", "full_ranking.column: name a column"},
      {"data.full_ranking.attribute=[\"item\"]", "\"item\" is there twice"},
      {"data.full_ranking.attribute=[\"kin\"]", "did you mean \"kind\""},
      {"data.valid_format=GENERATED", "needs columns with names, not GENERATED"},
      {"data.valid_format=NCF_NEGATIVES", "full_ranking.attribute: no column \"kind\""},
      {"data.train.sequential=true", "would read the stream of data.train twice"},
      {"model.task.like.metric=[HR, AUC]", "metric must be some of HR, NDCG and RECALL"},
      {"model.task.like.metric=[]", "metric must be some of HR, NDCG and RECALL"}};
  for (const auto& [override_text, message] : bad) {
    INFO(override_text);
    const std::string e = ErrorOf(text, {override_text});
    INFO(e);
    CHECK(e.find(message) != std::string::npos);
  }
  std::string without = text;
  without.erase(without.find("group: \"user\""), 13);
  CHECK(ErrorOf(without, {}).find("needs data.group") != std::string::npos);
  without.erase(without.find("valid { files: \"/v\" }"), 22);
  CHECK(ErrorOf(without, {}).find("data.valid, which is missing") != std::string::npos);
  std::string two = text;
  two.replace(two.find("task {"), 6, "task { name: 'buy' label: 'kind' metric: HR } task {");
  CHECK(ErrorOf(two, {}).find("ranks by one label") != std::string::npos);
}

TEST_CASE("a stream is checked for what it cannot do") {
  const std::string text = R"(data { format: LIBSVM train { files: "-" sequential: true } }
    feature { name: "all" column: "*" id { multi_valued: true } table: "t" }
    table { name: "t" part { name: "w" dim: 1 sgd {} } }
    model { preset { kind: LR wide: "t.w" } } train { staleness: "inf" })";
  auto good = ParseJobConfig(text, "x");
  REQUIRE(good.status() == absl::OkStatus());
  CHECK(good->data().train().files(0) == "-");
  CHECK(ErrorOf(text, {"train.epochs=2"}).find("read once") != std::string::npos);
  CHECK(ErrorOf(text, {"cluster.workers=2"}).find("one worker's") != std::string::npos);
  CHECK(ErrorOf(text, {"data.format=CSV", "data.csv={column: [\"a\"]}"}).find("no header") != std::string::npos);
}

TEST_CASE("bad ranges are refused, not expanded") {
  CHECK(ErrorOf(Replaced("I{1..3}", "I{3..1}")).find("must rise") != std::string::npos);
  CHECK(ErrorOf(Replaced("I{1..3}", "I{1..99999999}")).find("at most") != std::string::npos);
  CHECK(ErrorOf(Replaced("I{1..3}", "I{1..}")).find("expected one range") != std::string::npos);
  CHECK(ErrorOf(Replaced("C{5..6}", "C{5..7}")).find("3 elements") != std::string::npos);
  CHECK(ErrorOf(Replaced("C{5..6}", "C5")).find("write a range") != std::string::npos);
}

TEST_CASE("ranges in a block's inputs expand") {
  auto c = ParseJobConfig(
      kGood, "x", std::vector<std::string>{"model.block.lin.sum.in=[\"I{1..3}.w\",\"emb.w\"]"});
  REQUIRE(c.ok());
  CHECK(c->model().block(0).sum().in_size() == 4);
  CHECK(c->model().block(0).sum().in(2) == "I3.w");
}

TEST_CASE("a missing, empty or binary config file is a clear error") {
  const char* tmp = std::getenv("TEST_TMPDIR");
  const std::string dir = tmp == nullptr ? "/tmp" : tmp;
  CHECK(LoadJobConfig(dir + "/absent").status().code() == absl::StatusCode::kNotFound);
  CHECK(LoadJobConfig(dir).status().message().find("directory") != absl::string_view::npos);
  std::ofstream(dir + "/empty").close();
  CHECK(LoadJobConfig(dir + "/empty").status().message().find("empty") != absl::string_view::npos);
  std::ofstream(dir + "/binary") << std::string("\x00\xff\xfe{{{", 6);
  const std::string binary(LoadJobConfig(dir + "/binary").status().message());
  CHECK(binary.find("/binary:1:") != std::string::npos);
  CHECK(std::all_of(binary.begin(), binary.end(), [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
  std::ofstream(dir + "/good") << kGood;
  CHECK(LoadJobConfig(dir + "/good").ok());
}

TEST_CASE("$TIDEGATE_DATA is the environment's, and missing it is explained") {
  setenv("TIDEGATE_DATA", "/data/sets", 1);
  CHECK(ResolvePath("$TIDEGATE_DATA/a9a/a9a").value() == "/data/sets/a9a/a9a");
  unsetenv("TIDEGATE_DATA");
  if (!std::filesystem::exists("../shared/data")) {
    auto p = ResolvePath("$TIDEGATE_DATA/a9a/a9a");
    REQUIRE_FALSE(p.ok());
    CHECK(p.status().message().find("set the environment variable TIDEGATE_DATA") !=
          absl::string_view::npos);
  }
}

TEST_CASE("staleness reads 0, numbers and inf, and gives the bound of a pull") {
  CHECK(ParseStaleness("0")->sync);
  CHECK(ParseStaleness("0")->PullBound(5) == 4);
  CHECK_FALSE(ParseStaleness("4")->sync);
  CHECK(ParseStaleness("4")->PullBound(5) == 0);
  CHECK(ParseStaleness("inf")->PullBound(5) == kNoBound);
  for (const char* bad : {"", "-1", "1.5", "1 ", "Inf", "99999999999999999999"}) {
    CHECK_FALSE(ParseStaleness(bad).ok());
  }
}

TEST_CASE("what is wrong with all features of a range is one line, with the first and the last") {
  const std::string error = ErrorOf(Replaced("name: \"I{1..3}\" numeric { transform: LOG2_BUCKET } table: \"emb\"",
                                             "name: \"I{1..3}\" numeric { transform: LOG2_BUCKET } table: \"embb\""));
  CHECK_THAT(error, Catch::Contains("feature \"I1\" and 2 more (to \"I3\"): table \"embb\" does not exist (did you mean \"emb\"?)"));
  CHECK_THAT(error, !Catch::Contains("\"I2\""));
}

TEST_CASE("warnings name what is allowed but voids a guarantee") {
  JobConfig c = Good();
  CHECK(JobConfigWarnings(c).empty());
  c.mutable_train()->set_staleness("0");
  c.mutable_cluster()->set_workers(2);
  c.mutable_model()->mutable_preset()->set_norm(MlpBlock::BATCH);
  REQUIRE(JobConfigWarnings(c).size() == 1);
  CHECK(JobConfigWarnings(c)[0].find("batch norm") != std::string::npos);
  c.mutable_model()->mutable_preset()->clear_norm();
  CHECK(JobConfigWarnings(c).empty());
  c.mutable_model()->add_block()->mutable_batch_norm();
  c.mutable_model()->mutable_task(0)->set_loss(TaskConfig::SOFTMAX);
  c.mutable_train()->set_clip_worker_norm(1);
  REQUIRE(JobConfigWarnings(c).size() == 3);
  CHECK(JobConfigWarnings(c)[0].find("batch norm") != std::string::npos);
  CHECK(JobConfigWarnings(c)[1].find("clip_worker_norm") != std::string::npos);
  CHECK(JobConfigWarnings(c)[2].find("SOFTMAX") != std::string::npos);
  c.mutable_train()->set_staleness("4");
  CHECK(JobConfigWarnings(c).empty());
}

TEST_CASE("FEATURE_OOV is taken, with a warning where no key ever waits for admission") {
  JobConfig c = Good();
  TableConfig* table = c.mutable_table(0);
  table->set_unadmitted(FEATURE_OOV);
  for (const uint32_t after : {0u, 1u, 2u}) {
    table->set_admit_after(after);
    const std::vector<std::string> warnings = JobConfigWarnings(c);
    REQUIRE(warnings.size() == (after > 1 ? 0 : 1));
    if (after <= 1) CHECK_THAT(warnings[0], Catch::Contains("FEATURE_OOV without admit_after"));
  }
  table->clear_admit_after();
  table->set_admit_probability(1);
  CHECK(JobConfigWarnings(c).size() == 1);
  table->set_admit_probability(0.5);
  CHECK(JobConfigWarnings(c).empty());
  const std::vector<std::string> waiting = {"table.emb.admit_after=10", "table.emb.unadmitted=FEATURE_OOV"};
  CHECK(ParseJobConfig(kGood, "good", waiting).ok());
}

}  // namespace tidegate
