// Every block's gradients against central differences of the loss, over all parameters and rows.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/worker/model/fixture.h"

namespace tidegate {
namespace {

// A tolerance that single precision allows: the loss is a double sum of float activations.
void CheckGradients(ModelFixture* f) {
  auto result = f->model->Train(&f->step);
  REQUIRE(result.ok());
  const std::vector<TableStep> analytic = f->step.tables;
  size_t checked = 0;
  double largest = 0;
  for (size_t t = 0; t < f->step.tables.size(); ++t) {
    const TableSpec& spec = f->model->tables()[t];
    if (spec.parts(0).optimizer().has_moving_average()) continue;
    const size_t width = f->model->row_widths()[t];
    uint64_t elements = f->step.tables[t].rows.size();
    if (spec.kind() == TableSpec::DENSE) {
      elements = 1;
      for (uint64_t s : spec.shape()) elements *= s;
    }
    for (size_t i = 0; i < elements; ++i) {
      float& x = f->step.tables[t].rows[i];
      const float before = x;
      const float h = 4e-3f;
      x = before + h;
      const double up = f->Loss();
      x = before - h;
      const double down = f->Loss();
      x = before;
      const double numeric = (up - down) / (2.0 * h);
      largest = std::max(largest, std::fabs(numeric));
      const double got = analytic[t].gradients[i];
      INFO(spec.name() << " element " << i << " of width " << width);
      CHECK(got == Approx(numeric).margin(4e-3).epsilon(5e-3));
      ++checked;
    }
  }
  CHECK(largest > 0.05);  // those that are as small as the tolerance show nothing
  CHECK(checked > 0);
}

std::string WithModel(const std::string& model) {
  return absl::StrCat(kTables, "dense { sgd {} block: 8 } model {", model, "}");
}

}  // namespace

TEST_CASE("gradients of each block equal numerical differences") {
  const char* models[] = {
      // sum, with and without bias, multi-valued features pooled
      R"(block { name: "z" sum { in: "emb.w" } } task { logit: "z" })",
      R"(block { name: "z" sum { in: ["emb.v", "C1.w", "X"] bias: false } } task { logit: "z" })",
      // linear over several inputs
      R"(block { name: "z" linear { in: ["emb.v", "X", "Y"] } } task { logit: "z" })",
      R"(block { name: "h" linear { in: ["M.v"] units: 3 bias: false } }
         block { name: "z" linear { in: ["h", "X"] } } task { logit: "z" })",
      // fm over one and two inputs
      R"(block { name: "z" fm { in: "emb.v" } } task { logit: "z" })",
      R"(block { name: "z" fm { in: ["C1.v", "M.v"] } } task { logit: "z" })",
      // concat, add, pool
      R"(block { name: "c" concat { in: ["C1.v", "X", "emb.w"] } }
         block { name: "z" linear { in: "c" } } task { logit: "z" })",
      R"(block { name: "a" add { in: ["C1.v", "C2.v", "C1.v"] } }
         block { name: "z" sum { in: "a" } } task { logit: "z" })",
      R"(block { name: "p" pool { in: "emb.v" } } block { name: "z" linear { in: "p" } }
         task { logit: "z" })",
      R"(block { name: "p" pool { in: ["C1.v", "C2.v"] kind: MEAN } }
         block { name: "z" linear { in: "p" } } task { logit: "z" })",
      R"(block { name: "p" pool { in: "emb.v" kind: MAX } } block { name: "z" linear { in: "p" } }
         task { logit: "z" })",
      // mlp: activations, batch norm, dropout (the same mask in every evaluation)
      R"(block { name: "z" mlp { in: "emb.v" units: [6, 1] activation: TANH } } task { logit: "z" })",
      R"(block { name: "z" mlp { in: ["emb.v", "X"] units: [6, 4, 1] activation: SIGMOID } }
         task { logit: "z" })",
      R"(block { name: "z" mlp { in: "emb.v" units: [6, 1] activation: TANH norm: BATCH } }
         task { logit: "z" })",
      R"(block { name: "z" mlp { in: "emb.v" units: [9, 5, 1] activation: TANH dropout: .4 } }
         task { logit: "z" })",
      R"(block { name: "z" mlp { in: "emb.v" units: [9, 1] activation: IDENTITY norm: BATCH
                                 dropout: .3 last: TANH } } task { logit: "z" })",
      // cross: full, low rank, over several inputs; its input used again
      R"(block { name: "c" cross { in: "C1.v" layers: 2 } } block { name: "z" linear { in: "c" } }
         task { logit: "z" })",
      R"(block { name: "c" cross { in: ["C1.v", "X", "emb.w"] layers: 3 rank: 2 } }
         block { name: "z" linear { in: ["c", "C1.v"] } } task { logit: "z" })",
      R"(block { name: "h" linear { in: "emb.v" units: 3 } } block { name: "c" cross { in: "h" layers: 1 } }
         block { name: "z" sum { in: "c" } } task { logit: "z" })",
      // dot: fields of lookups and of blocks, with and without self products
      R"(block { name: "d" dot { in: "emb.v" } } block { name: "z" linear { in: "d" } }
         task { logit: "z" })",
      R"(block { name: "h" linear { in: "X" units: 5 } } block { name: "d" dot { in: ["h", "emb.v"] self: true } }
         block { name: "z" linear { in: "d" } } task { logit: "z" })",
      R"(block { name: "d" dot { in: ["emb.w", "X"] } } block { name: "z" linear { in: "d" } }
         task { logit: "z" })",
      // mul of two, of three, of one with itself
      R"(block { name: "m" mul { in: ["C1.v", "C2.v"] } } block { name: "z" linear { in: "m" } }
         task { logit: "z" })",
      R"(block { name: "m" mul { in: ["C1.v", "C2.v", "M.v"] } } block { name: "z" linear { in: "m" } }
         task { logit: "z" })",
      R"(block { name: "m" mul { in: ["C1.v", "C1.v"] } } block { name: "z" linear { in: "m" } }
         task { logit: "z" })",
      // cosine, slice
      R"(block { name: "z" cosine { in: ["C1.v", "C2.v"] scale: 3 } } task { logit: "z" })",
      R"(block { name: "h" linear { in: "emb.v" units: 5 } }
         block { name: "z" cosine { in: ["h", "C2.v"] } } task { logit: "z" })",
      R"(block { name: "s" slice { in: ["C1.v", "emb.w", "C2.v"] begin: 3 end: 11 } }
         block { name: "z" linear { in: "s" } } task { logit: "z" })",
      R"(block { name: "s" slice { in: "emb.v" begin: 19 } } block { name: "z" sum { in: "s" } }
         task { logit: "z" })",
      // batch norm, dropout and activations on their own
      R"(block { name: "n" batch_norm { in: ["C1.v", "C2.v"] } } block { name: "z" mlp { in: "n" units: [4, 1]
         activation: TANH } } task { logit: "z" })",
      R"(block { name: "n" batch_norm { in: "emb.v" } } block { name: "d" dot { in: "n" } }
         block { name: "z" linear { in: "d" } } task { logit: "z" })",
      R"(block { name: "n" dropout { in: "emb.v" rate: .3 } } block { name: "z" fm { in: "n" } }
         task { logit: "z" })",
      R"(block { name: "n" dropout { in: ["C1.v", "X"] } } block { name: "z" linear { in: "n" } }
         task { logit: "z" })",
      R"(block { name: "a" activation { in: ["C1.v", "X"] } } block { name: "z" linear { in: "a" } }
         task { logit: "z" })",
      R"(block { name: "a" activation { in: "emb.v" kind: TANH } } block { name: "z" fm { in: "a" } }
         task { logit: "z" })",
      // attention over a sequence: plain, softmax, deeper; its rows used pooled too
      R"(block { name: "p" attention_pool { query: "C1.v" sequence: "M.v" } }
         block { name: "z" linear { in: "p" } } task { logit: "z" })",
      R"(block { name: "p" attention_pool { query: "C1.v" sequence: "M.v" units: [4] activation: TANH
         softmax: true } } block { name: "z" linear { in: ["p", "M.v", "C1.v"] } } task { logit: "z" })",
      R"(block { name: "q" linear { in: ["X", "C2.v"] units: 5 } }
         block { name: "p" attention_pool { query: "q" sequence: "M.v" units: [4, 3] activation: SIGMOID } }
         block { name: "z" sum { in: "p" } } task { logit: "z" })",
      // other losses
      R"(block { name: "z" linear { in: "emb.v" } } task { logit: "z" loss: MSE weight: .5 })",
      R"(block { name: "z" mlp { in: "emb.v" units: [4, 1] activation: TANH last: SIGMOID } }
         task { probability: "z" })",
      R"(block { name: "q" linear { in: ["C1.v", "X"] units: 4 } }
         block { name: "i" linear { in: ["C2.v", "M.v"] units: 4 } } block { name: "z" dot { in: ["q", "i"] } }
         task { logit: "z" loss: SOFTMAX query: "q" item: "i" item_feature: "C2" temperature: .7 })",
      R"(block { name: "q" linear { in: ["C1.v", "X"] units: 4 } }
         block { name: "i" linear { in: ["C3.v", "M.v"] units: 4 } } block { name: "z" cosine { in: ["q", "i"] } }
         task { logit: "z" loss: SOFTMAX query: "q" item: "i" item_feature: "C3" temperature: .5
                cosine: true weight: 2 })",
      // the product of two probabilities, one of which has a task of its own on its logit
      R"(block { name: "h" mlp { in: "emb.v" units: [4] last: TANH } }
         block { name: "ctr" linear { in: "h" } } block { name: "cvr" linear { in: ["h", "X"] } }
         block { name: "p_ctr" activation { in: "ctr" } } block { name: "p_cvr" activation { in: "cvr" } }
         block { name: "p" mul { in: ["p_ctr", "p_cvr"] } }
         task { name: "click" logit: "ctr" } task { name: "buy" probability: "p" })",
      // two tasks with weights over shared blocks
      R"(block { name: "h" mlp { in: "emb.v" units: [4] last: TANH } }
         block { name: "a" linear { in: "h" } } block { name: "b" linear { in: ["h", "Y"] } }
         task { name: "t1" logit: "a" } task { name: "t2" logit: "b" weight: .3 })",
  };
  for (const char* model : models) {
    INFO(model);
    ModelFixture f(WithModel(model));
    CheckGradients(&f);
  }
}

TEST_CASE("relu gradients equal numerical differences away from the kink") {
  // Wide steps cross kinks: enough samples and a bias that keeps most units on one side.
  ModelFixture f(WithModel(R"(block { name: "z" mlp { in: "emb.v" units: [5, 1] dropout: .2 } }
                              task { logit: "z" })"));
  for (TableStep& table : f.step.tables) {
    const auto t = static_cast<size_t>(&table - f.step.tables.data());
    if (f.model->tables()[t].name() != "z/b0") continue;
    for (size_t i = 0; i < table.rows.size(); ++i) table.rows[i] = i % 2 == 0 ? 6.0f : -6.0f;
  }
  CheckGradients(&f);
}

TEST_CASE("presets have the gradients of their blocks") {
  for (const char* preset :
       {R"(preset { kind: LR wide: "emb.w" })", R"(preset { kind: FM wide: "emb.w" deep: "emb.v" })",
        R"(preset { kind: DCN_V2 deep: "emb.v" numeric: "X" cross_layers: 2 cross_rank: 3 })",
        R"(preset { kind: TWO_TOWER query: ["C1.v", "X"] item: ["C2.v", "C3.v"] units: [4] cosine: true }
           task { loss: SOFTMAX item_feature: "C2" temperature: .5 })"}) {
    ModelFixture f(WithModel(preset));
    CheckGradients(&f);
  }
}

TEST_CASE("tasks with labels of their own add up, each over the samples whose label it knows") {
  // A click's task on a shared bottom, and click times purchase as a product of probabilities.
  const auto text = [](const char* click, const char* buy) {
    return WithModel(absl::StrCat(R"(
      block { name: "h" mlp { in: "emb.v" units: [4] last: TANH } }
      block { name: "ctr" linear { in: "h" } } block { name: "cvr" linear { in: ["h", "X"] } }
      block { name: "p_ctr" activation { in: "ctr" } } block { name: "p_cvr" activation { in: "cvr" } }
      block { name: "p" mul { in: ["p_ctr", "p_cvr"] } }
      task { name: "click" logit: "ctr" weight: )", click, R"( }
      task { name: "buy" probability: "p" weight: )", buy, " }"));
  };
  const auto second_label = [](JobConfig* config) {
    config->mutable_model()->mutable_task(1)->set_label("bought");
  };
  ModelFixture both(text("1", ".3"), 12, 1, second_label);
  ModelFixture click(text("1", "0"), 12, 1, second_label);
  ModelFixture buy(text("0", ".3"), 12, 1, second_label);
  CHECK(both.Loss() == Approx(click.Loss() + buy.Loss()));
  CHECK(buy.Loss() > 0);
  CheckGradients(&both);

  ModelFixture other = ModelFixture(text("0", ".3"), 12, 1, second_label);
  std::vector<float>& bought = other.step.batch.labels[1];
  std::fill(bought.begin(), bought.end(), std::numeric_limits<float>::quiet_NaN());
  CHECK(other.Loss() == 0);
  auto result = other.model->Train(&other.step);
  REQUIRE(result.ok());
  for (const TableStep& t : other.step.tables) {
    for (float g : t.gradients) CHECK(g == 0);
  }
}

TEST_CASE("batch norm pushes the batch's moments times the weight") {
  ModelFixture f(WithModel(R"(block { name: "z" mlp { in: "emb.v" units: [3, 1] norm: BATCH } }
                              task { logit: "z" })"));
  auto result = f.model->Train(&f.step);
  REQUIRE(result.ok());
  size_t mean = 0, weights = 0;
  for (size_t t = 0; t < f.model->tables().size(); ++t) {
    if (f.model->tables()[t].name() == "z/mean0") mean = t;
    if (f.model->tables()[t].name() == "z/w0") weights = t;
  }
  REQUIRE(mean > 0);
  CHECK(f.model->tables()[mean].parts(0).optimizer().has_moving_average());
  // mean over rows of x W, by hand: x is four fields of dim 5.
  const Batch& b = f.step.batch;
  for (size_t unit = 0; unit < 3; ++unit) {
    double total = 0;
    for (size_t r = 0; r < b.rows; ++r) {
      for (size_t field = 0; field < 4; ++field) {
        const FeatureColumn& c = b.features[field];
        for (uint32_t i = c.offsets[r]; i < c.offsets[r + 1]; ++i) {
          const float* row = &f.step.tables[0].rows[f.step.features[field].position[i] * 6];
          const double w = c.weights.empty() ? 1.0 : c.weights[i];
          for (size_t d = 0; d < 5; ++d) {
            total += w * row[1 + d] * f.step.tables[weights].rows[(field * 5 + d) * 3 + unit];
          }
        }
      }
    }
    const double expected = total / static_cast<double>(b.rows) * result->weight_sum;
    CHECK(f.step.tables[mean].gradients[unit] == Approx(expected).epsilon(1e-4));
  }
}

}  // namespace tidegate
