#include "worker/data/generator.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

namespace tidegate {
namespace {

GeneratorConfig Config() {
  GeneratorConfig c;
  c.set_seed(7);
  for (const uint64_t n : {1000000ull, 1000ull, 10ull, 3ull}) c.add_cardinality(n);
  c.set_numeric_fields(2);
  return c;
}

}  // namespace

TEST_CASE("zipf ranks come with their probabilities") {
  for (const double q : {0.0, 0.8, 1.0, 1.05, 2.0}) {
    const uint64_t n = 20;
    Zipf zipf(n, q);
    Random random(11);
    std::vector<double> count(n + 1);
    const int draws = 200000;
    for (int i = 0; i < draws; ++i) ++count.at(zipf(&random));
    CHECK(count[0] == 0);
    double total = 0;
    for (uint64_t k = 1; k <= n; ++k) total += std::pow(k, -q);
    double chi2 = 0;
    for (uint64_t k = 1; k <= n; ++k) {
      const double want = draws * std::pow(k, -q) / total;
      chi2 += (count[k] - want) * (count[k] - want) / want;
    }
    INFO("exponent " << q);
    CHECK(chi2 < 45);  // 19 degrees of freedom: one in a thousand is above 43.8
  }
  Random random(1);
  Zipf one(1, 1.05);
  for (int i = 0; i < 100; ++i) CHECK(one(&random) == 1);
}

TEST_CASE("a row depends on the seed and its index and on nothing before it") {
  const Generator g = *Generator::Create(Config());
  GeneratedRow a, b;
  for (uint64_t i = 0; i < 100; ++i) g.Make(i, &a);
  g.Make(42, &a);
  Generator::Create(Config())->Make(42, &b);
  CHECK(a.category == b.category);
  CHECK(a.numeric == b.numeric);
  CHECK(a.probability == b.probability);
  CHECK(a.label == b.label);
  GeneratorConfig other = Config();
  other.set_seed(8);
  Generator::Create(other)->Make(42, &b);
  CHECK(a.probability != b.probability);
}

TEST_CASE("labels are drawn with the planted probability") {
  const Generator g = *Generator::Create(Config());
  GeneratedRow row;
  double expected[10] = {}, seen[10] = {}, count[10] = {};
  for (uint64_t i = 0; i < 100000; ++i) {
    g.Make(i, &row);
    REQUIRE(row.probability > 0);
    REQUIRE(row.probability < 1);
    const int bin = static_cast<int>(row.probability * 10);
    expected[bin] += row.probability;
    seen[bin] += row.label;
    ++count[bin];
  }
  for (int b = 0; b < 10; ++b) {
    CHECK(std::fabs(seen[b] - expected[b]) < 5 * std::sqrt(0.25 * count[b]) + 1);
    if (b < 8) CHECK(count[b] > 100);  // the planted model has something to say
  }
}

TEST_CASE("missing fields have the configured rate") {
  GeneratorConfig c = Config();
  c.set_missing_rate(0.25);
  const Generator g = *Generator::Create(c);
  GeneratedRow row;
  int numeric = 0, category = 0;
  for (uint64_t i = 0; i < 10000; ++i) {
    g.Make(i, &row);
    numeric += row.numeric[0] == GeneratedRow::kMissing;
    category += row.category[1] == 0;
  }
  CHECK(std::abs(numeric - 2500) < 220);
  CHECK(std::abs(category - 2500) < 220);
}

TEST_CASE("the attainable metrics are those of the true probabilities") {
  const Generator g = *Generator::Create(Config());
  const uint64_t begin = 500, end = 2500;
  GeneratedRow row;
  std::vector<std::pair<double, bool>> scored;
  double loss = 0;
  for (uint64_t i = begin; i < end; ++i) {
    g.Make(i, &row);
    scored.emplace_back(row.probability, row.label);
    loss -= std::log(row.label ? row.probability : 1 - row.probability);
  }
  double wins = 0, pairs = 0;
  for (const auto& p : scored) {
    for (const auto& n : scored) {
      if (!p.second || n.second) continue;
      ++pairs;
      wins += p.first > n.first ? 1 : p.first == n.first ? 0.5 : 0;
    }
  }
  const auto m = g.Attainable(begin, end);
  REQUIRE(m.ok());
  CHECK(m->rows == end - begin);
  CHECK(m->auc == Approx(wins / pairs));
  CHECK(m->logloss == Approx(loss / 2000));
  CHECK(m->auc > 0.7);
  CHECK_FALSE(g.Attainable(5, 5).ok());
}

TEST_CASE("tied probabilities count half in the attainable area") {
  GeneratorConfig c;
  c.add_cardinality(1);  // one id: every probability is the same
  const auto m = Generator::Create(c)->Attainable(0, 1000);
  REQUIRE(m.ok());
  CHECK(m->auc == 0.5);
}

TEST_CASE("a generator that is out of range is refused by field") {
  CHECK_FALSE(Generator::Create(GeneratorConfig()).ok());
  GeneratorConfig c = Config();
  c.add_cardinality(0);
  CHECK_THAT(std::string(Generator::Create(c).status().message()), Catch::Contains("cardinality"));
  c = Config();
  c.set_zipf_exponent(std::nan(""));
  CHECK_THAT(std::string(Generator::Create(c).status().message()),
             Catch::Contains("zipf_exponent"));
  c = Config();
  c.set_missing_rate(1.5);
  CHECK_FALSE(Generator::Create(c).ok());
}

}  // namespace tidegate
