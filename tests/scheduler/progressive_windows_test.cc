#include "scheduler/progressive_windows.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <vector>

#include "common/progressive.h"

namespace tidegate {
namespace {

JobConfig Job() {
  JobConfig job;
  job.mutable_model()->add_task()->set_name("click");
  job.mutable_model()->add_task()->set_name("rank");
  job.mutable_model()->mutable_task(1)->set_loss(TaskConfig::BPR);
  return job;
}

// `rows` samples of probability `p`, all with label `y`.
void Count(int rows, float p, float y, WorkerLoad* load) {
  if (load->progressive().empty()) load->add_progressive();
  const std::vector<float> predictions(rows, p), labels(rows, y);
  CountPredictions(Job().model().task(0), predictions, labels, {}, load->mutable_progressive(0));
}

double LogLoss(const std::vector<MetricValue>& metrics) {
  REQUIRE(metrics.size() == 2);
  CHECK(metrics[0].name() == "train/click/auc");
  CHECK(metrics[1].name() == "train/click/logloss");
  return metrics[1].value();
}

}  // namespace

TEST_CASE("a window holds what all workers counted since the last one, each report once") {
  ProgressiveWindows windows(Job());
  CHECK(windows.Close().empty());
  WorkerLoad a, b;
  Count(10, .5f, 1, &a);
  Count(10, .25f, 0, &b);
  windows.Take(1, a);
  windows.Take(1, a);  // doubled
  windows.Take(2, b);
  const auto first = windows.Close();
  CHECK(LogLoss(first) == Approx((std::log(2) - std::log(.75)) / 2));
  CHECK(first[0].value() == 1);
  CHECK(windows.Close().empty());
  const WorkerLoad late = a;
  Count(4, .5f, 0, &a);
  windows.Take(1, a);
  windows.Take(1, late);  // out of order
  CHECK(LogLoss(windows.Close()) == Approx(std::log(2)));
}

TEST_CASE("the first report of a worker that was there before is no news") {
  ProgressiveWindows windows(Job());
  WorkerLoad load;
  Count(1000, .9f, 0, &load);
  windows.Expect(1);
  windows.Take(1, load);
  CHECK(windows.Close().empty());
  Count(10, .5f, 1, &load);
  windows.Take(1, load);
  CHECK(LogLoss(windows.Close()) == Approx(std::log(2)));
}

TEST_CASE("counts of tasks that the job does not have, or of no sense, are left out") {
  ProgressiveWindows windows(Job());
  WorkerLoad load;
  Count(10, .5f, 1, &load);
  load.mutable_progressive(0)->set_task("clock");
  windows.Take(1, load);
  load.mutable_progressive(0)->set_task("rank");  // a loss without progressive metrics
  windows.Take(1, load);
  load.mutable_progressive(0)->set_task("click");
  load.mutable_progressive(0)->set_weight_sum(NAN);
  windows.Take(1, load);
  CHECK(windows.Close().empty());
}

}  // namespace tidegate
