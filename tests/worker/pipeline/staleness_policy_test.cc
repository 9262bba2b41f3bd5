#include "worker/pipeline/staleness_policy.h"

#include <catch2/catch.hpp>

namespace tidegate {

TEST_CASE("a pull names the bound of its staleness") {
  CHECK(StalenessPolicy({true, 0, 2}).BoundOf(5) == 4);
  CHECK(StalenessPolicy({true, 3, 2}).BoundOf(5) == 1);
  CHECK(StalenessPolicy({false, 0, 2}).BoundOf(5) == kNoBound);
}

TEST_CASE("a worker pulls ahead up to its depth and never beyond its own staleness") {
  struct Case {
    StalenessOptions options;
    uint64_t ahead;
  };
  for (const Case& c : {Case{{true, 0, 4}, 0}, Case{{true, 1, 4}, 1}, Case{{true, 9, 4}, 3},
                        Case{{false, 0, 2}, 1}, Case{{false, 0, 1}, 0}, Case{{true, 5, 0}, 0}}) {
    StalenessPolicy p(c.options);
    CHECK(p.LookAhead() == c.ahead);
    const Clock computed = 10;
    CHECK(p.MayPull(computed + 1 + static_cast<Clock>(c.ahead), computed));
    CHECK_FALSE(p.MayPull(computed + 2 + static_cast<Clock>(c.ahead), computed));
  }
}

// The furthest pull ahead waits at most for the tick of a clock whose push has left already.
TEST_CASE("pulling ahead never waits for a clock that is not computed") {
  for (uint64_t s : {0, 1, 2, 7})
    for (uint32_t depth : {1, 2, 8}) {
      StalenessPolicy p({true, s, depth});
      for (Clock next = 0; next < 30; ++next)
        for (Clock computed = -1; computed < next; ++computed)
          if (p.MayPull(next, computed)) CHECK(p.BoundOf(next) <= computed);
    }
}

}  // namespace tidegate
