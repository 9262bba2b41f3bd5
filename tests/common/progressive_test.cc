#include "common/progressive.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "common/eval_metrics.h"
#include "common/random.h"

namespace tidegate {
namespace {

TaskConfig Task(TaskConfig::Loss loss = TaskConfig::BCE) {
  TaskConfig task;
  task.set_loss(loss);
  return task;
}

struct Stream {
  std::vector<float> p, y, w;
};
// Labels drawn from the predicted probabilities, as of a calibrated model.
Stream RandomStream(uint64_t seed, size_t n, double bias) {
  Random random(seed);
  Stream s;
  for (size_t i = 0; i < n; ++i) {
    const double logit = bias + 3 * (random.Unit() + random.Unit() - 1);
    const double p = 1 / (1 + std::exp(-logit));
    s.p.push_back(static_cast<float>(p));
    s.y.push_back(random.Unit() < p ? 1 : 0);
    s.w.push_back(static_cast<float>(1 + random.Below(3)));
  }
  return s;
}

double ValueOf(const std::vector<MetricValue>& metrics, const std::string& name) {
  for (const MetricValue& m : metrics) {
    if (m.name() == name) return m.value();
  }
  FAIL("no metric " << name);
  return 0;
}

}  // namespace

TEST_CASE("the histogram's AUC is the exact one to 2e-4, the log loss is exact") {
  for (double bias : {0.0, -4.0}) {
    const Stream s = RandomStream(7, 20000, bias);
    TaskProgress counts;
    CountPredictions(Task(), s.p, s.y, s.w, &counts);
    const EvalMetrics exact = ComputeEvalMetrics(s.p, s.y, s.w);
    const auto metrics = ProgressiveMetrics(Task(), counts);
    CHECK(ValueOf(metrics, "train/click/auc") == Approx(exact.auc).margin(2e-4));
    CHECK(ValueOf(metrics, "train/click/logloss") == Approx(exact.logloss).epsilon(1e-12));
  }
}

TEST_CASE("buckets rise with the prediction and hold every float from 0 to 1") {
  CHECK(PredictionBucket(0) == 0);
  CHECK(PredictionBucket(1) == kPredictionBuckets - 1);
  CHECK(PredictionBucket(0.5f) == kPredictionBuckets / 2);
  size_t last = 0;
  for (int i = 0; i <= 1000; ++i) {
    const size_t bucket = PredictionBucket(static_cast<float>(i) / 1000);
    CHECK(bucket >= last);
    last = bucket;
  }
}

TEST_CASE("a window is the difference of two counts, summed over workers") {
  const Stream first = RandomStream(1, 500, 0), second = RandomStream(2, 700, -1), other = RandomStream(3, 300, 1);
  TaskProgress earlier, now, another, expected, window;
  CountPredictions(Task(), first.p, first.y, first.w, &earlier);
  now = earlier;
  CountPredictions(Task(), second.p, second.y, second.w, &now);
  CountPredictions(Task(), other.p, other.y, other.w, &another);
  CountPredictions(Task(), second.p, second.y, second.w, &expected);
  CountPredictions(Task(), other.p, other.y, other.w, &expected);
  REQUIRE(AddDifference(now, earlier, &window));
  REQUIRE(AddDifference(another, TaskProgress(), &window));
  CHECK(window.weight_sum() == expected.weight_sum());
  CHECK(window.loss_sum() == Approx(expected.loss_sum()));
  for (int i = 0; i < expected.positives_size(); ++i) {
    CHECK(window.positives(i) == expected.positives(i));
    CHECK(window.negatives(i) == expected.negatives(i));
  }
}

TEST_CASE("counts that run backwards or make no sense are refused, and nothing is added") {
  const Stream s = RandomStream(1, 50, 0);
  TaskProgress counts, sum;
  CountPredictions(Task(), s.p, s.y, s.w, &counts);
  CHECK_FALSE(AddDifference(TaskProgress(), counts, &sum));
  TaskProgress bad = counts;
  bad.mutable_positives()->RemoveLast();
  CHECK_FALSE(AddDifference(bad, TaskProgress(), &sum));
  bad = counts;
  bad.set_negatives(3, -1);
  CHECK_FALSE(AddDifference(bad, TaskProgress(), &sum));
  bad = counts;
  bad.set_loss_sum(std::numeric_limits<double>::infinity());
  CHECK_FALSE(AddDifference(bad, TaskProgress(), &sum));
  CHECK(sum.weight_sum() == 0);
  CHECK(sum.positives_size() == 0);
}

TEST_CASE("rows without a label are not counted; without rows there is no metric") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  TaskProgress counts;
  CountPredictions(Task(), std::vector<float>{.5f}, std::vector<float>{nan}, {}, &counts);
  CHECK(counts.weight_sum() == 0);
  CHECK(ProgressiveMetrics(Task(), counts).empty());
  CountPredictions(Task(), std::vector<float>{.5f}, std::vector<float>{1}, {}, &counts);
  CHECK(std::isnan(ValueOf(ProgressiveMetrics(Task(), counts), "train/click/auc")));
}

TEST_CASE("a regression's progressive metric is its RMSE") {
  TaskProgress counts;
  CountPredictions(Task(TaskConfig::MSE), std::vector<float>{2, 5}, std::vector<float>{1, 3},
                   std::vector<float>{1, 3}, &counts);
  const auto metrics = ProgressiveMetrics(Task(TaskConfig::MSE), counts);
  REQUIRE(metrics.size() == 1);
  CHECK(metrics[0].name() == "train/click/rmse");
  CHECK(metrics[0].value() == Approx(std::sqrt(13.0 / 4)));
  CHECK_FALSE(HasProgressiveMetrics(Task(TaskConfig::SOFTMAX)));
}

}  // namespace tidegate
