#include "worker/model/model.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/worker/model/fixture.h"

namespace tidegate {
namespace {

const char kDeepFm[] = R"(model { preset { kind: DEEPFM wide: "emb.w" deep: "emb.v" units: [16, 8]
  norm: BATCH dropout: .3 numeric: ["X", "Y"] } } dense { adam {} l2 { weight: .1 } block: 8 })";

std::string DeepFm() { return absl::StrCat(kTables, kDeepFm); }

std::string ErrorOf(const std::string& model) {
  absl::Status s = CreateStatus(absl::StrCat(kTables, "model {", model, "}"));
  CHECK(s.code() == absl::StatusCode::kInvalidArgument);
  return std::string(s.message());
}

bool Has(const std::string& text, const std::string& piece) {
  INFO(text);
  CHECK(text.find(piece) != std::string::npos);
  return true;
}

}  // namespace

TEST_CASE("dense tables carry their block's names, shapes, initialisers and L2 of weights only") {
  ModelFixture f(DeepFm());
  std::vector<std::string> names;
  for (const TableSpec& t : f.model->tables()) names.push_back(t.name());
  const std::set<std::string> have(names.begin(), names.end());
  for (const char* n : {"emb", "wide/b", "deep/w0", "deep/gamma0", "deep/beta0", "deep/mean0",
                        "deep/variance0", "deep/w1", "deep/w2", "deep/b2"}) {
    INFO(n);
    CHECK(have.count(n) == 1);
  }
  CHECK(have.count("deep/b0") == 0);  // batch norm has its own shift
  for (size_t t = 0; t < f.model->tables().size(); ++t) {
    const TableSpec& spec = f.model->tables()[t];
    CHECK(spec.id() == t);
    if (spec.name() == "deep/w0") {
      CHECK(spec.shape(0) == 4 * 5 + 2);
      CHECK(spec.shape(1) == 16);
      CHECK(spec.parts(0).dim() == 8);
      CHECK(spec.parts(0).init().uniform() == Approx(std::sqrt(6.0 / 22)));
      CHECK(spec.parts(0).l2().weight() == 0.1f);
      CHECK(f.step.tables[t].keys.size() == 22 * 16 / 8);
    }
    if (spec.name() == "deep/b2") {
      CHECK(spec.parts(0).dim() == 1);
      CHECK_FALSE(spec.parts(0).has_l2());
    }
    if (spec.name() == "deep/variance0") CHECK(spec.parts(0).init().constant() == 1);
  }
}

TEST_CASE("gather gives distinct keys, positions and the samples that held each") {
  ModelFixture f(DeepFm());
  const TableStep& t = f.step.tables[0];
  CHECK(std::set<Key>(t.keys.begin(), t.keys.end()).size() == t.keys.size());
  std::vector<std::set<size_t>> samples(t.keys.size());
  for (size_t feature = 0; feature < 4; ++feature) {
    const FeatureColumn& c = f.step.batch.features[feature];
    for (size_t r = 0; r < f.step.batch.rows; ++r) {
      for (uint32_t i = c.offsets[r]; i < c.offsets[r + 1]; ++i) {
        const uint32_t p = f.step.features[feature].position[i];
        CHECK(t.keys[p] == c.keys[i]);
        samples[p].insert(r);
      }
    }
  }
  for (size_t k = 0; k < t.keys.size(); ++k) CHECK(t.counts[k] == samples[k].size());
}

TEST_CASE("the same step gives the same bits") {
  ModelFixture a(DeepFm(), 300), b(DeepFm(), 300);
  b.MakeBatch(17, 5, 9);  // another batch in between, smaller
  b.FillRows(2);
  REQUIRE(b.model->Train(&b.step).ok());
  b.MakeBatch(300, 100, 1);
  b.FillRows(1);
  REQUIRE(a.model->Train(&a.step).ok());
  REQUIRE(b.model->Train(&b.step).ok());
  for (size_t t = 0; t < a.step.tables.size(); ++t) {
    CHECK(a.step.tables[t].gradients == b.step.tables[t].gradients);
  }
}

TEST_CASE("a batch's gradient is the sum of its halves', dropout masks included") {
  const std::string text = absl::StrCat(kTables, R"(
    model { block { name: "z" mlp { in: "emb.v" units: [32, 16, 1] dropout: .5 } } task { logit: "z" } })");
  ModelFixture whole(text, 40), first(text, 40), second(text, 40);
  whole.MakeBatch(40, 100, 1);
  first.MakeBatch(25, 100, 1);
  second.MakeBatch(15, 125, 1);
  ModelFixture* const all[] = {&whole, &first, &second};
  double loss[3], weight[3];
  for (int i = 0; i < 3; ++i) {
    all[i]->FillRows(3);
    all[i]->step.dropout_seed = 11;
    auto result = all[i]->model->Train(&all[i]->step);
    REQUIRE(result.ok());
    loss[i] = result->loss_sum;
    weight[i] = result->weight_sum;
  }
  CHECK(loss[0] == Approx(loss[1] + loss[2]).epsilon(1e-6));
  CHECK(weight[0] == Approx(weight[1] + weight[2]).epsilon(1e-9));
  for (size_t t = 1; t < whole.step.tables.size(); ++t) {
    for (size_t i = 0; i < whole.step.tables[t].gradients.size(); ++i) {
      CHECK(whole.step.tables[t].gradients[i] ==
            Approx(first.step.tables[t].gradients[i] + second.step.tables[t].gradients[i])
                .margin(1e-5).epsilon(1e-4));
    }
  }
}

TEST_CASE("dropout changes with its seed, drops its share, and is off in evaluation") {
  const std::string text = absl::StrCat(kTables, R"(
    model { block { name: "h" mlp { in: "emb.v" units: [400, 1] dropout: .25 } } task { logit: "h" } })");
  ModelFixture f(text, 50);
  f.step.dropout_seed = 1;
  const double a = f.Loss();
  CHECK(f.Loss() == a);
  f.step.dropout_seed = 2;
  CHECK(f.Loss() != a);
  auto e1 = f.model->Evaluate(&f.step);
  f.step.dropout_seed = 3;
  auto e2 = f.model->Evaluate(&f.step);
  REQUIRE(e1.ok());
  REQUIRE(e2.ok());
  CHECK(e1->loss_sum == e2->loss_sum);
}

TEST_CASE("evaluation uses the moving statistics, so a sample's score is its own") {
  ModelFixture f(DeepFm(), 30);
  auto all = f.model->Evaluate(&f.step);
  REQUIRE(all.ok());
  f.MakeBatch(1, 110, 1);
  f.FillRows(1);
  auto one = f.model->Evaluate(&f.step);
  REQUIRE(one.ok());
  CHECK(one->probabilities[0][0] == Approx(all->probabilities[0][10]).epsilon(1e-5));
}

TEST_CASE("dense blocks in another order give the same result") {
  ModelFixture f(DeepFm(), 20), g(DeepFm(), 20);
  for (size_t t = 1; t < g.step.tables.size(); ++t) {
    TableStep& table = g.step.tables[t];
    const size_t width = g.model->row_widths()[t];
    const TableStep before = table;
    const size_t n = table.keys.size();
    for (size_t k = 0; k < n; ++k) {
      table.keys[k] = before.keys[n - 1 - k];
      std::copy_n(&before.rows[(n - 1 - k) * width], width, &table.rows[k * width]);
    }
  }
  REQUIRE(f.model->Train(&f.step).ok());
  REQUIRE(g.model->Train(&g.step).ok());
  for (size_t t = 1; t < g.step.tables.size(); ++t) {
    const size_t width = g.model->row_widths()[t];
    const size_t n = g.step.tables[t].keys.size();
    for (size_t k = 0; k < n; ++k) {
      for (size_t i = 0; i < width; ++i) {
        CHECK(f.step.tables[t].gradients[(n - 1 - k) * width + i] ==
              g.step.tables[t].gradients[k * width + i]);
      }
    }
  }
}

TEST_CASE("an empty batch has no loss and no gradient") {
  ModelFixture f(DeepFm());
  f.MakeBatch(0, 0, 1);
  f.FillRows(1);
  auto result = f.model->Train(&f.step);
  REQUIRE(result.ok());
  CHECK(result->weight_sum == 0);
  for (const TableStep& t : f.step.tables) {
    CHECK(std::all_of(t.gradients.begin(), t.gradients.end(), [](float g) { return g == 0; }));
    CHECK(t.gradients.size() == t.rows.size());
  }
}

TEST_CASE("a batch that does not fit the model is refused") {
  ModelFixture f(DeepFm());
  SECTION("rows") { f.step.tables[0].rows.pop_back(); }
  SECTION("numeric column") { f.step.batch.numeric[0].pop_back(); }
  SECTION("number of features") { f.step.batch.features.pop_back(); }
  SECTION("positions") { f.step.features[0].position.pop_back(); }
  SECTION("a dense block is missing") {
    f.step.tables[2].keys.pop_back();
    f.step.tables[2].rows.resize(f.step.tables[2].keys.size() * f.model->row_widths()[2]);
  }
  CHECK(f.model->Train(&f.step).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK_FALSE(f.model->Evaluate(&f.step).ok());
}

TEST_CASE("errors of the graph name the block and the nearest name") {
  Has(ErrorOf(R"(block { name: "z" sum { in: "emb.q" } } task { logit: "z" })"), "names no part");
  Has(ErrorOf(R"(block { name: "z" sum { in: "enb.w" } } task { logit: "z" })"),
      "did you mean \"emb.w\"");
  Has(ErrorOf(R"(block { name: "deep" sum { in: "emb.w" } } task { logit: "deeep" })"),
      "did you mean \"deep\"");
  Has(ErrorOf(R"(block { name: "z" sum { in: "emb.w" } } block { name: "u" sum { in: "X" } }
                 task { logit: "z" })"), "block \"u\" feeds no task");
  Has(ErrorOf(R"(block { name: "a" add { in: "b" } } block { name: "b" add { in: "a" } }
                 task { logit: "a" })"), "needs its own output: a <- b <- a");
  Has(ErrorOf(R"(block { name: "a" sum { in: "X" } } block { name: "a" sum { in: "Y" } }
                 task { logit: "a" })"), "is there twice");
  Has(ErrorOf(R"(block { name: "a" sum { } } task { logit: "a" })"), "name its inputs");
  Has(ErrorOf(R"(block { name: "a" } task { logit: "a" })"), "no kind");
  Has(ErrorOf(R"(block { name: "a" fm { in: ["emb.v", "emb.w"] } } task { logit: "a" })"),
      "must be of one dim");
  Has(ErrorOf(R"(block { name: "a" add { in: ["emb.v", "emb.w"] } } task { logit: "a" })"),
      "must be of one shape");
  Has(ErrorOf(R"(block { name: "a" mlp { in: "emb.v" } } task { logit: "a" })"), "units");
  Has(ErrorOf(R"(block { name: "a" mlp { in: "emb.v" units: [2] } } task { logit: "a" })"),
      "must have one");
  Has(ErrorOf(R"(preset { kind: DEEPFM wide: "emb.w" deep: "emb.v" })"), "units");
  Has(ErrorOf(R"(preset { kind: FM wide: "emb.w" })"), "deep");
}

TEST_CASE("all that is wrong with a graph is said at once") {
  const std::string e = ErrorOf(R"(block { name: "a" sum { in: "emb.q" } } block { name: "b" sum { in: "zz" } }
    block { name: "c" add { in: "d" } } block { name: "d" add { in: "c" } } block { name: "e" add { in: "c" } }
    task { logit: "nope" })");
  Has(e, "block \"a\": input \"emb.q\" names no part");
  Has(e, "block \"b\": input \"zz\" is no block");
  Has(e, "needs its own output: c <- d <- c");
  Has(e, "logit \"nope\" is no block");
  CHECK(std::count(e.begin(), e.end(), '\n') == 3);
  Has(ErrorOf(R"(block { name: "b" linear { in: "C1" } } task { logit: "b" })"),
      "input \"C1\" is an id feature: name a part of its row, \"C1.PART\", or make it a number: numeric { }");
  const std::string shapes = ErrorOf(R"(block { name: "a" fm { in: ["emb.v", "emb.w"] } } block { name: "b" mul { in: ["C1.v", "emb.v"] } }
    block { name: "z" linear { in: ["a", "b"] } } task { logit: "z" })");
  Has(shapes, "block \"a\": ");
  Has(shapes, "block \"b\": ");
  CHECK(std::count(shapes.begin(), shapes.end(), '\n') == 1);
}

TEST_CASE("what a block cannot take is refused by the block's name") {
  struct Case { const char *block, *message; };
  const Case cases[] = {
      {R"(cross { in: "emb.v" layers: 0 })", "layers is 0; from 1"},
      {R"(cross { in: "emb.v" rank: 20 })", "rank is 20; below the width of 20"},
      {R"(cross { in: "emb.v" rank: 4294967295 })", "below the width"},
      {R"(dot { in: "C1.v" })", "1 fields together; from 2"},
      {R"(dot { in: ["emb.v", "X"] })", "must be of one dim"},
      {R"(mul { in: ["C1.v", "emb.v"] })", "must be of one shape"},
      {R"(mul { })", "name its inputs"},
      {R"(cosine { in: "C1.v" })", "it needs two inputs of one size, and has [5]"},
      {R"(cosine { in: ["C1.v", "emb.v"] })", "has [5, 20]"},
      {R"(slice { in: "C1.v" end: 6 })", "slice from 0 to 6 of inputs with 5 elements"},
      {R"(slice { in: "C1.v" begin: 5 })", "slice from 5 to 5"},
      {R"(slice { in: "C1.v" begin: 3 end: 2 })", "slice from 3 to 2"},
      {R"(attention_pool { sequence: "M.v" })", "query: name its input"},
      {R"(attention_pool { query: "C1.v" })", "sequence: name a \"feature.part\""},
      {R"(attention_pool { query: "C1.v" sequence: "emb.v" })", "is of 4 features; name one"},
      {R"(attention_pool { query: "C1.v" sequence: "X" })", "is no block, numeric feature"},
      {R"(attention_pool { query: "emb.v" sequence: "M.v" })", "its query has 20 elements"},
      {R"(attention_pool { query: "C1.v" sequence: "M.v" units: 0 })", "units must be 1 or more"},
      {R"(custom { type: "unheard" in: "X" })", "no custom block of type \"unheard\""},
  };
  for (const Case& c : cases) {
    INFO(c.block);
    const std::string e = ErrorOf(absl::StrCat("block { name: \"b\" ", c.block, R"( }
      block { name: "z" linear { in: "b" } } task { logit: "z" })"));
    Has(e, "block \"b\": ");
    Has(e, c.message);
  }
}

TEST_CASE("tasks that do not fit their loss are refused") {
  const std::string towers = R"(block { name: "q" linear { in: "C1.v" units: 3 } }
    block { name: "i" linear { in: "C2.v" units: 2 } } block { name: "z" linear { in: ["q", "i"] } })";
  struct Case { const char *task, *message; };
  const Case cases[] = {
      {R"(logit: "z" loss: SOFTMAX query: "q" item: "i" item_feature: "C2")", "have 3 and 2 elements"},
      {R"(logit: "z" loss: SOFTMAX query: "q" item: "j" item_feature: "C2")", "item \"j\" is no block"},
      {R"(logit: "z" loss: SOFTMAX query: "q" item: "q" item_feature: "C9")", "\"C9\" is no feature with a table"},
      {R"(logit: "z" loss: SOFTMAX query: "q" item: "q" item_feature: "M")", "is multi-valued"},
      {R"(logit: "z" loss: SOFTMAX query: "q" item: "q")", "item_feature: name the feature"},
      {R"(logit: "z" loss: SOFTMAX query: "q" item: "q" item_feature: "C2" temperature: 0)", "temperature is 0"},
      {R"(logit: "z" query: "q")", "are for loss SOFTMAX"},
      {R"(logit: "z" probability: "z")", "name one of them"},
      {R"(probability: "z" loss: MSE)", "probability is for loss BCE"},
      {R"(probability: "q" } task { name: "second" logit: "z")", "probability \"q\" has 3 elements"},
      {R"(logit: "z" loss: BPR)", "set data.negatives"},
      {R"(logit: "z" loss: MSE metric: LOGLOSS)", "metric LOGLOSS needs predictions that are probabilities"},
  };
  for (const Case& c : cases) {
    INFO(c.task);
    Has(ErrorOf(absl::StrCat(towers, "task { ", c.task, " }")), c.message);
  }
}

TEST_CASE("attention with a weight of one is the sum of the sequence") {
  const std::string head = absl::StrCat(kTables, R"(dense { sgd {} block: 8 } model {
    block { name: "z" linear { in: ["C1.v", "p"] } } task { logit: "z" } block { name: "p" )");
  ModelFixture attention(head + R"(attention_pool { query: "C1.v" sequence: "M.v" units: [3] } } })");
  ModelFixture pool(head + R"(pool { in: "M.v" } } })");
  for (size_t t = 1; t < attention.step.tables.size(); ++t) {
    const std::string& name = attention.model->tables()[t].name();
    std::vector<float>& rows = attention.step.tables[t].rows;
    if (name[0] == 'p') std::fill(rows.begin(), rows.end(), name == "p/b1" ? 1.0f : 0.0f);
    for (size_t u = 1; name[0] == 'z' && u < pool.step.tables.size(); ++u) {
      if (pool.model->tables()[u].name() == name) pool.step.tables[u].rows = rows;
    }
  }
  CHECK(attention.Loss() == Approx(pool.Loss()).epsilon(1e-6));
}

TEST_CASE("the dense gradient of a step is clipped to a norm of its mean, moving averages are not") {
  const std::string model = absl::StrCat(kTables, R"(dense { sgd {} block: 8 } model {
    block { name: "z" mlp { in: "emb.v" units: [6, 1] norm: BATCH } } task { logit: "z" } })");
  ModelFixture plain(model), high(model + "train { clip_worker_norm: 1000 }"),
      low(model + "train { clip_worker_norm: .01 }");
  auto result = plain.model->Train(&plain.step);
  REQUIRE(result.ok());
  REQUIRE(high.model->Train(&high.step).ok());
  REQUIRE(low.model->Train(&low.step).ok());
  double before = 0, after = 0;
  for (size_t t = 0; t < plain.step.tables.size(); ++t) {
    CHECK(high.step.tables[t].gradients == plain.step.tables[t].gradients);
    const bool moving = plain.model->tables()[t].parts(0).optimizer().has_moving_average();
    if (t == 0 || moving) {
      CHECK(low.step.tables[t].gradients == plain.step.tables[t].gradients);
      continue;
    }
    for (float g : plain.step.tables[t].gradients) before += static_cast<double>(g) * g;
    for (float g : low.step.tables[t].gradients) after += static_cast<double>(g) * g;
  }
  CHECK(std::sqrt(before) / result->weight_sum > .01);
  CHECK(std::sqrt(after) / result->weight_sum == Approx(.01).epsilon(1e-5));
}

TEST_CASE("a preset takes its own fields only, and says which it lacks") {
  struct Case { const char *preset, *message; };
  const Case cases[] = {
      {R"(kind: DCN_V2)", "DCN_V2: deep: name"},
      {R"(kind: DCN_V2 deep: "emb.v" wide: "emb.w")", "DCN_V2: wide is not of this preset"},
      {R"(kind: DLRM deep: "emb.v")", "DLRM: units"},
      {R"(kind: DLRM deep: "emb.v" units: 4 numeric: "X")", "numeric and bottom_units go together"},
      {R"(kind: DLRM deep: "emb.v" units: 4 numeric: "X" bottom_units: [4])", "must be of one dim"},
      {R"(kind: NEUMF query: "C1.v" item: "C2.v" query_mlp: "C1.v" units: 4)", "NEUMF: item_mlp: name"},
      {R"(kind: NEUMF query: ["C1.v", "C3.v"] item: "C2.v" query_mlp: "C1.v" item_mlp: "C2.v" units: 4)",
       "one input each"},
      {R"(kind: TWO_TOWER query: "C1.v" item: "C2.v")", "TWO_TOWER: units"},
      {R"(kind: LR wide: "emb.w" cross_layers: 2)", "cross_layers is not of this preset"},
  };
  for (const Case& c : cases) {
    INFO(c.preset);
    Has(ErrorOf(absl::StrCat("preset { ", c.preset, " }")), c.message);
  }
}

TEST_CASE("presets are the blocks they stand for") {
  ModelFixture preset(absl::StrCat(kTables, R"(model { preset { kind: WIDE_DEEP wide: "emb.w"
    deep: "emb.v" units: [6] } })"));
  ModelFixture blocks(absl::StrCat(kTables, R"(model {
    block { name: "wide" sum { in: "emb.w" } }
    block { name: "deep" mlp { in: "emb.v" units: [6, 1] } }
    block { name: "logit" add { in: ["wide", "deep"] } }
    task { logit: "logit" } })"));
  CHECK(preset.Loss() == blocks.Loss());
  CHECK(preset.model->tables().size() == blocks.model->tables().size());
}

TEST_CASE("each preset is the blocks that its page shows") {
  struct Case { const char *preset, *blocks; };
  const Case cases[] = {
      {R"(kind: DCN_V2 deep: "emb.v" numeric: "X" units: [6] norm: BATCH dropout: .1 cross_layers: 2)",
       R"(block { name: "cross" cross { in: ["emb.v", "X"] layers: 2 } }
          block { name: "cross_logit" linear { in: "cross" bias: false } }
          block { name: "deep" mlp { in: ["emb.v", "X"] units: [6, 1] norm: BATCH dropout: .1 } }
          block { name: "logit" add { in: ["cross_logit", "deep"] } })"},
      {R"(kind: DCN_V2 deep: "emb.v" cross_rank: 2)",
       R"(block { name: "cross" cross { in: "emb.v" rank: 2 } } block { name: "logit" linear { in: "cross" } })"},
      {R"(kind: DLRM deep: "emb.v" units: [6])",
       R"(block { name: "interactions" dot { in: "emb.v" } }
          block { name: "logit" mlp { in: "interactions" units: [6, 1] } })"},
      {R"(kind: DLRM deep: "emb.v" numeric: ["X", "Y"] bottom_units: [4, 5] units: [6])",
       R"(block { name: "bottom" mlp { in: ["X", "Y"] units: [4, 5] last: RELU } }
          block { name: "interactions" dot { in: ["emb.v", "bottom"] } }
          block { name: "logit" mlp { in: ["interactions", "bottom"] units: [6, 1] } })"},
      {R"(kind: NEUMF query: "C1.v" item: "C2.v" query_mlp: "C3.v" item_mlp: "M.v" units: [6, 3])",
       R"(block { name: "gmf" mul { in: ["C1.v", "C2.v"] } }
          block { name: "gmf_logit" linear { in: "gmf" bias: false } }
          block { name: "deep" mlp { in: ["C3.v", "M.v"] units: [6, 3, 1] } }
          block { name: "logit" add { in: ["gmf_logit", "deep"] } })"},
      {R"(kind: TWO_TOWER query: ["C1.v", "X"] item: "C2.v" units: [6, 3])",
       R"(block { name: "query" mlp { in: ["C1.v", "X"] units: [6, 3] } }
          block { name: "item" mlp { in: "C2.v" units: [6, 3] } }
          block { name: "logit" dot { in: ["query", "item"] } })"},
  };
  for (const Case& c : cases) {
    INFO(c.preset);
    ModelFixture preset(absl::StrCat(kTables, "model { preset { ", c.preset, " } }"));
    ModelFixture blocks(absl::StrCat(kTables, "model { ", c.blocks, " task { logit: \"logit\" } }"));
    CHECK(preset.Loss() == blocks.Loss());
    std::vector<std::string> a, b;
    for (const TableSpec& t : preset.model->tables()) a.push_back(t.name());
    for (const TableSpec& t : blocks.model->tables()) b.push_back(t.name());
    CHECK(a == b);
  }
}

TEST_CASE("a long chain of blocks is no deep recursion") {
  std::string text = kTables;
  absl::StrAppend(&text, "model { block { name: \"b0\" sum { in: \"X\" } }");
  for (int i = 1; i < 5000; ++i) {
    absl::StrAppend(&text, "block { name: \"b", i, "\" add { in: \"b", i - 1, "\" } }");
  }
  absl::StrAppend(&text, "task { logit: \"b4999\" } }");
  CHECK(CreateStatus(text).ok());
}

}  // namespace tidegate
