#include "common/eval_metrics.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "common/random.h"

namespace tidegate {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Scores {
  std::vector<float> p, y, w;
};

Scores RandomScores(uint64_t seed, size_t n, uint64_t distinct) {
  Random random(seed);
  Scores s;
  for (size_t i = 0; i < n; ++i) {
    s.p.push_back(static_cast<float>(random.Below(distinct)) / static_cast<float>(distinct));
    s.y.push_back(random.Unit() < .3 ? 1 : 0);
    s.w.push_back(static_cast<float>(random.Below(4)));
  }
  return s;
}

// The definition: over all pairs of a positive and a negative, ties half.
double AucByPairs(const Scores& s) {
  double won = 0, pairs = 0;
  for (size_t i = 0; i < s.p.size(); ++i) {
    for (size_t j = 0; j < s.p.size(); ++j) {
      if (!(s.y[i] == 1 && s.y[j] == 0)) continue;
      const double weight = static_cast<double>(s.w[i]) * s.w[j];
      pairs += weight;
      won += weight * (s.p[i] > s.p[j] ? 1 : s.p[i] == s.p[j] ? .5 : 0);
    }
  }
  return won / pairs;
}

TEST_CASE("AUC equals the share of pairs in order, with ties and weights") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Scores s = RandomScores(seed, 200, seed % 2 ? 7 : 100000);
    CHECK(ComputeEvalMetrics(s.p, s.y, s.w).auc == Approx(AucByPairs(s)).epsilon(1e-12));
  }
}

TEST_CASE("log loss and calibration are weighted means") {
  const std::vector<float> p = {.25f, .75f}, y = {0, 1}, w = {1, 3};
  const EvalMetrics m = ComputeEvalMetrics(p, y, w);
  CHECK(m.logloss == Approx(-std::log(.75)));
  CHECK(m.calibration == Approx((.25 + 3 * .75) / 3));
  CHECK(m.rows == 2);
  CHECK(m.weight_sum == 4);
}

TEST_CASE("a certain and wrong prediction costs the clip, not infinity") {
  const std::vector<float> p = {0, 1}, y = {1, 0};
  CHECK(ComputeEvalMetrics(p, y, {}).logloss == Approx(-std::log(kLogLossClip)).epsilon(1e-6));
  CHECK(ComputeEvalMetrics(y, y, {}).logloss == Approx(1e-7).margin(1e-9));
}

TEST_CASE("one class only has no AUC, no positives no calibration") {
  const std::vector<float> p = {.2f, .4f}, zeros = {0, 0}, ones = {1, 1};
  CHECK(std::isnan(ComputeEvalMetrics(p, zeros, {}).auc));
  CHECK(std::isnan(ComputeEvalMetrics(p, zeros, {}).calibration));
  CHECK(std::isnan(ComputeEvalMetrics(p, ones, {}).auc));
  CHECK(std::isnan(ComputeEvalMetrics({}, {}, {}).logloss));
}

TEST_CASE("rows without a label are left out") {
  const std::vector<float> p = {.2f, .9f, .8f}, y = {0, kNan, 1};
  const EvalMetrics m = ComputeEvalMetrics(p, y, {});
  CHECK(m.rows == 2);
  CHECK(m.auc == 1);
}

std::string Bytes(const std::vector<float>& v) {
  return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(float));
}

TEST_CASE("a set collected in pieces computes what the whole does") {
  const Scores s = RandomScores(3, 100, 50);
  ScoreSet set;
  for (size_t begin = 0; begin < 100; begin += 25) {
    const auto part = [&](const std::vector<float>& v) {
      return Bytes(std::vector<float>(v.begin() + begin, v.begin() + begin + 25));
    };
    REQUIRE(set.Add(part(s.p), part(s.y), part(s.w)).ok());
  }
  const EvalMetrics whole = ComputeEvalMetrics(s.p, s.y, s.w), pieces = set.Compute();
  CHECK(pieces.auc == whole.auc);
  CHECK(pieces.logloss == whole.logloss);
  CHECK(pieces.calibration == whole.calibration);
}

TEST_CASE("scores that make no sense are refused and nothing is added") {
  ScoreSet set;
  CHECK_FALSE(set.Add(Bytes({.5f}), Bytes({0, 1}), "").ok());
  CHECK_FALSE(set.Add(Bytes({.5f}), Bytes({0}), Bytes({1, 1})).ok());
  CHECK_FALSE(set.Add("abc", "abc", "").ok());
  CHECK_FALSE(set.Add(Bytes({.5f, 1.5f}), Bytes({0, 1}), "").ok());
  CHECK_FALSE(set.Add(Bytes({.5f, kNan}), Bytes({0, 1}), "").ok());
  CHECK_FALSE(set.Add(Bytes({.5f}), Bytes({0}), Bytes({-1})).ok());
  CHECK(set.rows() == 0);
}

}  // namespace
}  // namespace tidegate
