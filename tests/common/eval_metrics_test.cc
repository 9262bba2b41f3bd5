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

TEST_CASE("RMSE is the root of the weighted mean square error") {
  const std::vector<float> p = {2, 5}, y = {1, 3}, w = {1, 3};
  CHECK(ComputeEvalMetrics(p, y, w).rmse == Approx(std::sqrt((1 + 3 * 4) / 4.0)));
}

// ---- within groups ----

GroupedMetrics Grouped(std::vector<float> p, std::vector<float> y, std::vector<uint64_t> g, uint32_t k,
                       std::vector<float> w = {}) {
  return ComputeGroupedMetrics(p, y, w, g, k);
}

TEST_CASE("GAUC weighs the AUC of each group that has both classes by its samples") {
  // Group 1: AUC 1, weight 1 + 1; group 2: AUC 0, weight 1 + 5; group 3: one class.
  const GroupedMetrics m = Grouped({.1f, .2f, .9f, .8f, .5f}, {0, 1, 0, 1, 1}, {1, 1, 2, 2, 3}, 1, {1, 1, 1, 5, 9});
  CHECK(m.gauc == Approx(2.0 / 8));
  CHECK(m.gauc_groups == 2);
  CHECK(std::isnan(Grouped({.1f}, {1}, {1}, 1).gauc));
}

TEST_CASE("GAUC of one group is its AUC, also with ties and weights, wherever its rows stand") {
  const Scores s = RandomScores(5, 300, 7);
  std::vector<uint64_t> same(300, 42), two(300);
  CHECK(ComputeGroupedMetrics(s.p, s.y, s.w, same, 1).gauc == Approx(AucByPairs(s)).epsilon(1e-12));
  for (size_t i = 0; i < 300; ++i) two[i] = i % 2;
  Scores half[2];
  double weight[2] = {0, 0};
  for (size_t i = 0; i < 300; ++i) {
    half[i % 2].p.push_back(s.p[i]), half[i % 2].y.push_back(s.y[i]), half[i % 2].w.push_back(s.w[i]);
    weight[i % 2] += s.w[i];
  }
  const double expected = (weight[0] * AucByPairs(half[0]) + weight[1] * AucByPairs(half[1])) / (weight[0] + weight[1]);
  CHECK(ComputeGroupedMetrics(s.p, s.y, s.w, two, 1).gauc == Approx(expected).epsilon(1e-12));
}

TEST_CASE("leave-one-out: the positive's rank decides hit, gain and recall") {
  std::vector<float> p, y;
  std::vector<uint64_t> g;
  for (int rank : {1, 3, 11}) {  // one user each, with 20 negatives
    for (int i = 1; i <= 21; ++i) {
      p.push_back(1.0f - static_cast<float>(i) / 100);
      y.push_back(i == rank ? 1 : 0);
      g.push_back(static_cast<uint64_t>(rank));
    }
  }
  const GroupedMetrics m = Grouped(p, y, g, 10);
  CHECK(m.ranked_groups == 3);
  CHECK(m.hit_rate == Approx(2.0 / 3));
  CHECK(m.recall == Approx(2.0 / 3));
  CHECK(m.ndcg == Approx((1 + 1 / std::log2(4)) / 3));
}

TEST_CASE("several positives: recall is their share, the gain is over the best possible") {
  const GroupedMetrics m = Grouped({.9f, .8f, .7f, .6f, .5f}, {1, 0, 1, 0, 1}, {1, 1, 1, 1, 1}, 3);
  CHECK(m.hit_rate == 1);
  CHECK(m.recall == Approx(2.0 / 3));
  CHECK(m.ndcg == Approx((1 + 1 / std::log2(4)) / (1 + 1 / std::log2(3) + 1 / std::log2(4))));
}

TEST_CASE("a constant prediction is no hit: ties rank the negatives first") {
  const std::vector<float> same(11, .5f);
  std::vector<float> y(11, 0);
  y[0] = 1;
  CHECK(Grouped(same, y, std::vector<uint64_t>(11, 1), 10).hit_rate == 0);
  CHECK(Grouped(same, y, std::vector<uint64_t>(11, 1), 11).hit_rate == 1);
}

TEST_CASE("groups without a positive and rows without a label do not rank") {
  const GroupedMetrics m = Grouped({.9f, .8f, .7f}, {0, kNan, 1}, {1, 2, 2}, 1);
  CHECK(m.ranked_groups == 1);
  CHECK(m.hit_rate == 1);
  CHECK(std::isnan(Grouped({.9f}, {0}, {1}, 1).hit_rate));
}

std::string Bytes(const std::vector<float>& v) {
  return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(float));
}

TEST_CASE("positives ranked elsewhere give the metrics of the rows, bit by bit") {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    const uint64_t distinct = seed % 2 == 0 ? 7 : 10'000;
    Random random(seed);
    std::vector<float> p, y, each_p, each_y;
    std::vector<uint64_t> g, each_g;
    RankCounter counter;
    for (uint64_t group = 0; group < 50; ++group) {
      std::vector<float> positives, negatives;
      for (uint64_t i = 0; i < 1 + group % 3; ++i) positives.push_back(static_cast<float>(random.Below(distinct)));
      for (uint64_t i = 0; i < 30; ++i) negatives.push_back(static_cast<float>(random.Below(distinct)));
      for (const auto& [from, label] : {std::pair(&positives, 1.0f), std::pair(&negatives, 0.0f)}) {
        for (const float score : *from) {
          p.push_back(score), y.push_back(label), g.push_back(group);
        }
      }
      for (const float positive : positives) {
        each_p.push_back(positive), each_y.push_back(1), each_g.push_back(group);
        for (const float negative : negatives) {
          each_p.push_back(negative), each_y.push_back(0), each_g.push_back(group);
        }
      }
    }
    const size_t cut = each_p.size() / 3;
    const std::span<const float> all_p(each_p), all_y(each_y);
    const std::span<const uint64_t> all_g(each_g);
    counter.Add(all_p.first(cut), all_y.first(cut), all_g.first(cut));
    counter.Add(all_p.subspan(cut), all_y.subspan(cut), all_g.subspan(cut));
    for (const uint32_t k : {1u, 3u, 10u}) {
      const GroupedMetrics expected = ComputeGroupedMetrics(p, y, {}, g, k);
      const GroupedMetrics ranked = ComputeRankedMetrics(counter.above(), counter.groups(), k);
      CHECK(ranked.hit_rate == expected.hit_rate);
      CHECK(ranked.ndcg == expected.ndcg);
      CHECK(ranked.recall == expected.recall);
      CHECK(ranked.ranked_groups == 50);
      if (k == 10) CHECK((expected.recall > 0 && expected.recall < 1));
    }
  }
}

TEST_CASE("a candidate whose score is no number counts as above, and none at all give no metric") {
  RankCounter counter;
  counter.Add(std::vector<float>{.5f, kNan, .4f, .5f}, std::vector<float>{1, 0, 0, 0}, std::vector<uint64_t>{7, 7, 7, 7});
  CHECK(counter.above() == std::vector<uint32_t>{2});
  CHECK(std::isnan(ComputeRankedMetrics({}, {}, 10).hit_rate));
}

TEST_CASE("ranked positives of mismatched lengths, or beside other rows, are refused") {
  const std::string one(4, '\0'), group(8, '\0');
  ScoreSet set;
  CHECK(set.AddRanked("", "", "").ok());
  CHECK_FALSE(set.AddRanked(one, group, "").ok());
  CHECK_FALSE(set.AddRanked(one, one, one).ok());
  CHECK_FALSE(set.AddRanked("abc", "abcdef", "abc").ok());
  REQUIRE(set.AddRanked(one, group, one).ok());
  CHECK(set.ComputeGrouped(1).hit_rate == 1);
  ScoreSet rows;
  REQUIRE(rows.Add(one, one, "", group).ok());
  CHECK_FALSE(rows.AddRanked(one, group, one).ok());
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
  CHECK_FALSE(set.Add(Bytes({.5f}), Bytes({0}), "", "1234567").ok());
  CHECK(set.rows() == 0);
  ScoreSet any(ScoreSet::Predictions::kAnyFinite);
  CHECK(any.Add(Bytes({-3, 40}), Bytes({0, 1}), "").ok());
  CHECK_FALSE(any.Add(Bytes({kNan}), Bytes({0}), "").ok());
  CHECK_FALSE(any.Add(Bytes({1}), Bytes({0}), "", "12345678").ok());  // groups for some only
  CHECK(any.rows() == 2);
}

}  // namespace
}  // namespace tidegate
