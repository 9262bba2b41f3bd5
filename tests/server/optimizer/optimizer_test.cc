#include "server/optimizer/optimizer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "tests/conformance/reference_table.h"

namespace tidegate {
namespace {

PartSpec ParsePart(const std::string& text) {
  PartSpec part;
  REQUIRE(google::protobuf::TextFormat::ParseFromString("name: 'p' " + text, &part));
  return part;
}

// Two elements, as the papers' formulas would have them in exact arithmetic.
struct Row {
  explicit Row(const std::string& text) : optimizer(*PartOptimizer::Create(ParsePart("dim: 2 " + text))) {
    slots.resize(optimizer.slots());
    optimizer.InitializeSlots(values, slots.data());
  }
  void Apply(float g0, float g1, UpdateArguments arguments = {}) {
    const float gradient[2] = {g0, g1};
    optimizer.Apply(optimizer.Prepare(arguments), values, slots.data(),
                    reinterpret_cast<const std::byte*>(gradient), applications++, last);
    last = arguments.clock;
  }
  PartOptimizer optimizer;
  float values[2] = {1, -2};
  std::vector<float> slots;
  uint32_t applications = 0;
  Clock last = 0;
};

std::string ErrorOf(const std::string& text) {
  const auto made = PartOptimizer::Create(ParsePart(text));
  return made.ok() ? "" : std::string(made.status().message());
}

}  // namespace

TEST_CASE("sgd steps against the mean gradient, by all three rates") {
  Row row("optimizer { sgd { lr: 0.5 } } lr_scale: 0.5");
  row.Apply(4, -8, {.scale = 0.25f, .lr_scale = 2});
  CHECK(row.values[0] == 0.5f);
  CHECK(row.values[1] == -1.0f);
}

TEST_CASE("momentum carries the last step on") {
  Row row("optimizer { momentum { lr: 1 momentum: 0.5 } }");
  row.Apply(1, 0);
  row.Apply(0, 0);
  CHECK(row.values[0] == -0.5f);  // 1 - 1 - 0.5
  CHECK(row.values[1] == -2.0f);
}

TEST_CASE("nesterov looks one step of momentum ahead") {
  Row row("optimizer { momentum { lr: 1 momentum: 0.5 nesterov: true } }");
  row.Apply(1, 0);
  CHECK(row.values[0] == -0.5f);  // 1 - (1 + .5 * 1)
  row.Apply(0, 0);
  CHECK(row.values[0] == -0.75f);  // m = .5: - .5 * .5
  CHECK(row.values[1] == -2.0f);
}

TEST_CASE("adagrad divides by the root of summed squares") {
  Row row("optimizer { adagrad { lr: 1 initial_accumulator: 16 } }");
  row.Apply(3, 0);
  CHECK(row.values[0] == Approx(1 - 3.0 / 5.0));
  CHECK(row.slots[0] == 25);
  CHECK(row.values[1] == -2);
}

TEST_CASE("row-wise adagrad shares the mean square of the row") {
  Row row("optimizer { rowwise_adagrad { lr: 1 } }");
  row.Apply(3, 4);
  CHECK(row.slots[0] == 12.5f);
  CHECK(row.values[0] == Approx(1 - 3 / std::sqrt(12.5)));
  CHECK(row.values[1] == Approx(-2 - 4 / std::sqrt(12.5)));
}

TEST_CASE("adam's first step has the size of the rate; zero gradients in a push decay its moments") {
  Row row("optimizer { adam { lr: 0.1 } }");
  row.Apply(0.03f, -700);
  CHECK(row.values[0] == Approx(0.9).epsilon(1e-5));
  CHECK(row.values[1] == Approx(-1.9).epsilon(1e-5));
  double m = 0.1 * 0.03, v = 0.001 * 0.03 * 0.03;
  row.Apply(0, 0);
  m *= 0.9, v *= 0.999;
  const double step = 0.1 * (m / (1 - 0.81)) / (std::sqrt(v / (1 - 0.999 * 0.999)) + 1e-8);
  CHECK(row.values[0] == Approx(0.9 - step).epsilon(1e-5));
}

TEST_CASE("adam with a global step corrects by the push's clock") {
  Row row("optimizer { adam { lr: 0.1 step: GLOBAL } }");
  row.Apply(1, 1, {.clock = 9});
  const double step = 0.1 * (0.1 / (1 - std::pow(0.9, 10))) / std::sqrt(0.001 / (1 - std::pow(0.999, 10)));
  CHECK(row.values[0] == Approx(1 - step).epsilon(1e-4));
}

TEST_CASE("adamw decays by its rate beside adam's step, not through the moments") {
  Row decayed("optimizer { adamw { lr: 0.1 weight_decay: 0.5 } }");
  decayed.Apply(0, 0);
  CHECK(decayed.values[0] == 1 * (1 - 0.1f * 0.5f));
  CHECK(decayed.values[1] == -2 * (1 - 0.1f * 0.5f));
  CHECK(decayed.slots == std::vector<float>(4, 0));
  Row adam("optimizer { adam { lr: 0.1 } }"), without("optimizer { adamw { lr: 0.1 weight_decay: 0 } }");
  for (int t = 0; t < 5; ++t) adam.Apply(.3f, -.7f), without.Apply(.3f, -.7f);
  CHECK(adam.values[0] == without.values[0]);
  CHECK(adam.values[1] == without.values[1]);
}

TEST_CASE("gradients are clipped by value, then by norm, after the mean and before l2") {
  Row value("optimizer { sgd { lr: 1 } } clip { value: 0.5 }");
  value.Apply(4, -1, {.scale = 0.25f});
  CHECK(value.values[0] == 0.5f);   // 1 - min(.5, 1)
  CHECK(value.values[1] == -1.75f);  // -2 + .25: within
  Row norm("optimizer { sgd { lr: 1 } } clip { norm: 1 }");
  norm.Apply(3, 4);
  CHECK(norm.values[0] == Approx(1 - 0.6));
  CHECK(norm.values[1] == Approx(-2 - 0.8));
  Row within("optimizer { sgd { lr: 1 } } clip { norm: 5 }");
  within.Apply(3, 4);
  CHECK(within.values[0] == -2);
  CHECK(within.values[1] == -6);
  Row both("optimizer { sgd { lr: 1 } } clip { value: 3 norm: 1 }");
  both.Apply(300, 4);  // (3, 3), then to length 1
  CHECK(both.values[0] == Approx(1 - std::sqrt(.5)));
  Row l2("optimizer { sgd { lr: 1 } } l2 { weight: 1 } clip { value: 0.5 }");
  l2.Apply(0, 8);
  CHECK(l2.values[0] == 0);      // l2 alone, not clipped
  CHECK(l2.values[1] == -0.5f);  // -2 - (.5 - 2)
}

TEST_CASE("a gradient whose squares overflow float is clipped, not dropped") {
  Row row("optimizer { sgd { lr: 1 } } clip { norm: 1 }");
  row.Apply(3e30f, 4e30f);
  CHECK(row.values[0] == Approx(1 - 0.6));
  CHECK(row.values[1] == Approx(-2 - 0.8));
}

TEST_CASE("ftrl keeps small weights at zero and starts from the initial value") {
  Row row("optimizer { ftrl { alpha: 1 beta: 1 l1: 0.5 l2: 0 } }");
  CHECK(row.slots[0] == -1.5f);  // the z that stands for w = 1: (.5 + 1.5 - 1) / 1
  row.Apply(0, 0);
  CHECK(row.values[0] == 1);
  CHECK(row.values[1] == -2);
  row.Apply(1.2f, 0);
  // n = 1.44, sigma = 1.2, z = -1.5 + 1.2 - 1.2 * 1 = -1.5: w = (1.5 - .5) / (1 + 1.2)
  CHECK(row.values[0] == Approx(1 / 2.2));
  row.values[0] = 0, row.slots[0] = 0, row.slots[2] = 0;
  row.Apply(0.4f, 0);  // |z| = .4 <= l1
  CHECK(row.values[0] == 0);
}

TEST_CASE("a moving average takes the mean, a sum the sum, and neither the learning rate") {
  Row average("optimizer { moving_average { decay: 0.75 } }");
  average.Apply(20, 0, {.scale = 0.25f, .lr_scale = 0});
  CHECK(average.values[0] == 2.0f);  // .75 * 1 + .25 * 5
  Row sum("optimizer { sum {} }");
  sum.Apply(20, 0, {.scale = 0.25f, .lr_scale = 0});
  CHECK(sum.values[0] == 21.0f);
}

TEST_CASE("a learning-rate scale of zero leaves values where they are") {
  for (const char* kind : {"sgd {}", "momentum {}", "momentum { nesterov: true }", "adagrad {}",
                           "rowwise_adagrad {}", "adam {}", "adamw {}", "ftrl {}"}) {
    Row row(std::string("optimizer { ") + kind + " }");
    row.Apply(1, 2, {.lr_scale = 0});
    CAPTURE(kind);
    CHECK(row.values[0] == 1);
    CHECK(row.values[1] == -2);
  }
}

TEST_CASE("lazy decay is one factor per clock and never runs backwards") {
  Row row("optimizer { sgd { lr: 0.5 } } l2 { weight: 1 scope: ALL_LAZY }");
  const auto at = [&](Clock clock) {
    return row.optimizer.DecayFactor(row.optimizer.Prepare({.clock = clock}), 3);
  };
  CHECK(at(3) == 1);
  CHECK(at(1) == 1);
  CHECK(at(5) == 0.25f);
  row.Apply(0, 2, {.clock = 2});
  CHECK(row.values[0] == 0.25f);
  CHECK(row.values[1] == -1.5f);  // caught up first, then stepped
}

TEST_CASE("lanes, tails and fixed widths give the bits of the scalar reference") {
  const std::string kind = GENERATE("sgd {}", "momentum {}", "momentum { nesterov: true }", "adagrad {}",
                                    "rowwise_adagrad {}", "adam {}", "adamw {}", "adamw { step: GLOBAL }",
                                    "ftrl { l1: 0.01 l2: 0.1 }", "moving_average {}");
  const int dim = GENERATE(1, 2, 3, 8, 9, 15, 16, 24, 31, 32, 63, 64, 65, 200);
  const bool l2 = GENERATE(false, true) && kind != "moving_average {}";
  const std::string clip = kind == "moving_average {}"
                               ? ""
                               : GENERATE("", "clip { value: 0.2 }", "clip { norm: 0.7 }",
                                          "clip { value: 0.25 norm: 0.5 }");
  const PartSpec part = ParsePart("dim: " + std::to_string(dim) + " optimizer { " + kind + " } " +
                                  clip + (l2 ? " l2 { weight: 0.25 }" : ""));
  const PartOptimizer optimizer = *PartOptimizer::Create(part);
  std::vector<float> values(dim), gradient(dim);
  for (int i = 0; i < dim; ++i) values[i] = std::sin(static_cast<float>(i + 1));
  std::vector<float> expected = values;
  std::vector<float> expected_slots = conformance::ReferenceSlots(part, values.data());
  std::vector<float> slots(optimizer.slots());
  optimizer.InitializeSlots(values.data(), slots.data());
  REQUIRE(slots.size() == expected_slots.size());
  for (uint32_t t = 0; t < 50; ++t) {
    for (int i = 0; i < dim; ++i) gradient[i] = std::cos(static_cast<float>(i * 3 + t));
    const UpdateArguments arguments{.scale = 0.37f, .lr_scale = 0.9f, .clock = t};
    optimizer.Apply(optimizer.Prepare(arguments), values.data(), slots.data(),
                    reinterpret_cast<const std::byte*>(gradient.data()), t, t);
    conformance::ReferenceApply(part, expected.data(), &expected_slots, gradient.data(), 0.37f, 0.9f, t, t);
  }
  CAPTURE(kind, dim, l2, clip);
  CHECK(std::memcmp(values.data(), expected.data(), values.size() * 4) == 0);
  CHECK((slots.empty() || std::memcmp(slots.data(), expected_slots.data(), slots.size() * 4) == 0));
}

TEST_CASE("rows stay finite under any number of pushes that the checks let pass") {
  const std::string rule = GENERATE(
      "sgd { lr: 1e6 }", "momentum { lr: 1e6 momentum: 0.9999999 }", "momentum { lr: 1e6 nesterov: true }",
      "adagrad { lr: 1e6 epsilon: 1e-30 }", "rowwise_adagrad { lr: 1e6 epsilon: 1e-30 }",
      "adam { lr: 1e6 beta1: 0.9999999 beta2: 0 epsilon: 1e-30 }", "adam { lr: 1e6 step: GLOBAL beta2: 0.9999999 epsilon: 1e-30 }",
      "adamw { lr: 1e6 weight_decay: 1e6 epsilon: 1e-30 }", "ftrl { alpha: 1e-12 beta: 0 l1: 1e15 l2: 0 }",
      "ftrl { alpha: 1e6 beta: 0 }", "ftrl { alpha: 1e-12 beta: 1e15 l2: 1e15 }", "moving_average { decay: 0 }", "sum {}");
  const std::string l2 = GENERATE("", " l2 { weight: 1e6 }", " l2 { weight: 1e6 scope: ALL_LAZY }");
  const float scale = GENERATE(1.0f, 3e38f, 1e-30f);  // of the learning rate
  const auto made = PartOptimizer::Create(ParsePart("dim: 11 optimizer { " + rule + " }" + l2));
  if (!made.ok()) {
    CHECK_THAT(std::string(made.status().message()), Catch::Contains("l2"));
    return;
  }
  CAPTURE(rule, l2, scale);
  std::vector<float> values(11, 3e38f), slots(made->slots()), gradient(11);
  for (const float start : {3e38f, 0.0f, -1e-38f}) {
    std::fill(values.begin(), values.end(), start);
    made->InitializeSlots(values.data(), slots.data());
    bool finite = true;
    for (uint32_t push = 0; push < 1000; ++push) {
      const float size = push % 7 == 3 ? 1e-23f : push % 5 == 0 ? 0.0f : 1e15f;
      for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = (push / (i + 1)) % 2 == 0 ? size : -size;
      made->Apply(made->Prepare({.lr_scale = scale, .clock = push}), values.data(), slots.data(),
                  reinterpret_cast<const std::byte*>(gradient.data()), push, push == 0 ? 0 : push - 1);
      for (const auto* row : {&values, &slots}) {
        finite = finite && std::all_of(row->begin(), row->end(), [](float x) { return std::isfinite(x); });
      }
    }
    CHECK(finite);
  }
}

TEST_CASE("numbers with which a row could leave what is finite are refused with their field") {
  CHECK_THAT(ErrorOf("dim: 4 optimizer { sgd { lr: 1.1e6 } }"), Catch::Contains("learning rate") && Catch::Contains("1e+06"));
  CHECK_THAT(ErrorOf("dim: 4 lr_scale: 1e3 optimizer { sgd { lr: 1e4 } }"), Catch::Contains("learning rate x lr_scale"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { ftrl { alpha: 1e-13 } }"), Catch::Contains("ftrl.alpha"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { ftrl { l1: 1e16 } }"), Catch::Contains("ftrl.l1"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { adagrad { epsilon: 1e-38 } }"), Catch::Contains("adagrad.epsilon"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { adamw { weight_decay: 1e7 } }"), Catch::Contains("weight_decay"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { sgd {} } l2 { weight: 1e7 }"), Catch::Contains("l2.weight"));
}

TEST_CASE("a part's spec is refused with its name and field") {
  CHECK(ErrorOf("dim: 4 optimizer { sgd {} }").empty());
  CHECK(ErrorOf("dim: 4 frozen: true").empty());
  CHECK_THAT(ErrorOf("optimizer { sgd {} }"), Catch::Contains("dim is 0"));
  CHECK_THAT(ErrorOf("dim: 4"), Catch::Contains("part \"p\" has no optimizer"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { sgd { lr: -1 } }"), Catch::Contains("learning rate"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { sgd { lr: inf } }"), Catch::Contains("learning rate"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { adam { beta1: 1 } }"), Catch::Contains("adam.beta1"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { adam { epsilon: 0 } }"), Catch::Contains("adam.epsilon"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { adamw { beta2: -1 } }"), Catch::Contains("adamw.beta2"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { adamw { weight_decay: nan } }"), Catch::Contains("weight_decay"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { sgd {} } clip { value: -1 }"), Catch::Contains("clip.value"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { sgd {} } clip { norm: inf }"), Catch::Contains("clip.norm"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { sum {} } clip { norm: 1 }"), Catch::Contains("clip"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { ftrl { alpha: 0 } }"), Catch::Contains("ftrl.alpha"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { momentum { momentum: 1.5 } }"), Catch::Contains("momentum"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { adagrad { initial_accumulator: nan } }"),
             Catch::Contains("initial_accumulator"));
  CHECK_THAT(ErrorOf("dim: 4 lr_scale: -1 optimizer { sgd {} }"), Catch::Contains("lr_scale"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { sum {} } l2 { weight: 1 }"), Catch::Contains("l2"));
  CHECK_THAT(ErrorOf("dim: 4 optimizer { ftrl {} } l2 { weight: 1 scope: ALL_LAZY }"),
             Catch::Contains("ftrl.l2"));
}

}  // namespace tidegate
