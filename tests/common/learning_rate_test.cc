#include "common/learning_rate.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <string>

#include "google/protobuf/text_format.h"

namespace tidegate {
namespace {

LearningRateSchedule Parse(const std::string& text) {
  Schedule schedule;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(text, &schedule));
  return LearningRateSchedule(schedule);
}

}  // namespace

TEST_CASE("without a schedule the factor is exactly one at every clock") {
  for (Clock clock : {Clock{-1}, Clock{0}, Clock{7}, Clock{1} << 60}) {
    CHECK(LearningRateSchedule().Factor(clock) == 1);
    CHECK(Parse("").Factor(clock) == 1);
  }
}

TEST_CASE("warm-up rises linearly from the first step on and ends at the schedule's start") {
  const LearningRateSchedule warm = Parse("warmup_steps: 4");
  CHECK(warm.Factor(-1) == .25f);
  CHECK(warm.Factor(0) == .25f);
  CHECK(warm.Factor(2) == .75f);
  CHECK(warm.Factor(3) == 1);
  CHECK(warm.Factor(100) == 1);
}

TEST_CASE("a step schedule multiplies once per period, counted from the end of warm-up") {
  const LearningRateSchedule step = Parse("kind: STEP every: 10 factor: 0.5 warmup_steps: 3");
  CHECK(step.Factor(2) == 1);
  CHECK(step.Factor(12) == 1);
  CHECK(step.Factor(13) == .5f);
  CHECK(step.Factor(33) == .125f);
  CHECK(step.Factor(Clock{1} << 60) == 0);
}

TEST_CASE("a cosine falls from one to min_scale over its period and stays there") {
  const LearningRateSchedule cosine = Parse("kind: COSINE every: 100 min_scale: 0.2");
  CHECK(cosine.Factor(0) == 1);
  CHECK(cosine.Factor(50) == Approx(.6));
  CHECK(cosine.Factor(100) == .2f);
  CHECK(cosine.Factor(100000) == .2f);
  for (Clock clock = 0; clock < 100; ++clock) {
    CHECK(cosine.Factor(clock) == Approx(.2 + .4 * (1 + std::cos(M_PI * clock / 100.0))).epsilon(1e-7));
    CHECK(cosine.Factor(clock + 1) < cosine.Factor(clock));
  }
}

}  // namespace tidegate
