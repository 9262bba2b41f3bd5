#include "scheduler/status_history.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

GetStatusResponse Training(double rate, double loss) {
  GetStatusResponse status;
  status.set_phase(TRAINING);
  status.set_samples_total(1);
  status.set_samples_per_second(rate);
  MemberStatus* worker = status.add_members();
  worker->set_alive(true);
  worker->mutable_worker_load()->set_samples_total(1);
  worker->mutable_worker_load()->set_loss(loss);
  return status;
}

TEST_CASE("a point a second, only while the job trains; nothing is asked for more often") {
  StatusHistory history;
  CHECK(history.Json() == "[]");
  GetStatusResponse evaluating = Training(1, 1);
  evaluating.set_phase(EVALUATING);
  CHECK(history.Due(-600));
  history.Add(-600, evaluating);
  CHECK(history.size() == 0);
  CHECK_FALSE(history.Due(399));
  CHECK(history.Due(400));
  history.Add(500, Training(100, .5));
  history.Add(1400, Training(200, .25));  // not due
  CHECK_FALSE(history.Due(1499));
  CHECK(history.Due(1500));
  history.Add(1500, Training(300, .125));
  CHECK(history.Json() == R"([{"t": 0.5, "samples_per_second": 100, "loss": 0.5}, {"t": 1.5, "samples_per_second": 300, "loss": 0.125}])");
}

TEST_CASE("a long job keeps a bounded number of points over all of its life") {
  StatusHistory history(10);
  TimeMs now = 0;
  for (; now < 1'000'000; now += 1000) history.Add(now, Training(static_cast<double>(now), 1));
  CHECK(history.size() >= 5);
  CHECK(history.size() < 10);
  const std::string json = history.Json();
  CHECK(json.find("\"t\": ") < 20);
  CHECK(json.find("\"t\": 895") != std::string::npos);  // of the newest: one in 128 is kept
}

}  // namespace
}  // namespace tidegate
