#include "common/executor/strand.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace tidegate {

TEST_CASE("an idle strand runs a task on the calling thread before Run returns") {
  Strand strand;
  std::thread::id ran_on;
  strand.Run([&] { ran_on = std::this_thread::get_id(); });
  CHECK(ran_on == std::this_thread::get_id());
}

TEST_CASE("a task queued from within a task runs after it, not inside it") {
  Strand strand;
  std::vector<int> order;
  strand.Run([&] {
    strand.Run([&] { order.push_back(2); });
    order.push_back(1);
  });
  CHECK(order == std::vector<int>{1, 2});
}

TEST_CASE("a busy strand takes the task over from a caller that goes on") {
  Strand strand;
  std::latch inside(1), release(1);
  std::thread runner([&] {
    strand.Run([&] {
      inside.count_down();
      release.wait();
    });
  });
  inside.wait();
  std::thread::id ran_on;
  strand.Run([&, only_movable = std::make_unique<int>(1)] { ran_on = std::this_thread::get_id(); });
  CHECK(ran_on == std::thread::id());  // not yet
  const std::thread::id runner_id = runner.get_id();
  release.count_down();
  runner.join();
  CHECK(ran_on == runner_id);
}

TEST_CASE("a task is queued behind those that run, and nothing is done where the strand is idle") {
  Strand strand;
  std::vector<int> order;
  CHECK_FALSE(strand.QueueIfBusy([&] { order.push_back(0); }));
  strand.Run([&] {
    CHECK(strand.QueueIfBusy([&] { order.push_back(2); }));
    order.push_back(1);
  });
  CHECK(order == std::vector<int>{1, 2});
}

// Under TSan this finds a strand that lets two tasks overlap: the counters are plain.
TEST_CASE("tasks of many threads never overlap and keep each thread's order") {
  constexpr int kThreads = 4, kTasks = 5000;
  Strand strands[2];
  int sum[2] = {0, 0};
  int last[2][kThreads] = {};
  int out_of_order = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 1; i <= kTasks; ++i) {
        const int s = i % 2;
        const auto task = [&, s, t, i] {
          ++sum[s];
          if (i <= last[s][t]) ++out_of_order;
          last[s][t] = i;
        };
        if (i % 3 != 0 || !strands[s].QueueIfBusy(task)) strands[s].Run(task);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int total = 0;
  for (int s = 0; s < 2; ++s) strands[s].Run([&, s] { total += sum[s]; });
  CHECK(total == kThreads * kTasks);
  CHECK(out_of_order == 0);
}

}  // namespace tidegate
