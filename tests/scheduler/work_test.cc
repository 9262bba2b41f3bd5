// The parts that work is made of: split queue, steps at staleness 0, evaluation, failure detection.
#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "scheduler/evaluation.h"
#include "scheduler/failure_detector.h"
#include "scheduler/sync_plan.h"
#include "scheduler/work_queue.h"

namespace tidegate {
namespace {

std::vector<Split> Splits(int n) {
  std::vector<Split> splits(n);
  for (int i = 0; i < n; ++i) {
    splits[i].set_begin(i * 10);
    splits[i].set_end(i * 10 + 10);
  }
  return splits;
}
WorkDone DoneOf(uint64_t lease, uint64_t samples = 1) {
  WorkDone done;
  done.set_lease(lease);
  done.set_samples(samples);
  return done;
}
std::string Floats(std::vector<float> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

TEST_CASE("a split is leased once until it is given back, then again, and done once") {
  EpochProgress progress;
  const auto splits = Splits(2);
  WorkQueue queue(&progress, &splits, Work::TRAIN);
  queue.Begin(3, 0);
  const LeaseRecord* a = queue.Lease(7, 100);
  REQUIRE(a != nullptr);
  CHECK(a->work().split().begin() == 0);
  CHECK(a->work().epoch() == 3);
  CHECK(queue.Lease(8, 101)->work().split().begin() == 10);
  CHECK_FALSE(queue.AnyFree());
  CHECK(queue.Lease(9, 102) == nullptr);
  CHECK(queue.GiveBack(7));
  CHECK_FALSE(queue.GiveBack(7));
  CHECK(queue.Lease(9, 103)->work().split().begin() == 0);
  CHECK_FALSE(queue.Complete(7, DoneOf(100)).has_value());  // not its lease any more
  CHECK(queue.Complete(9, DoneOf(103, 5)) == 0u);
  CHECK_FALSE(queue.Complete(9, DoneOf(103, 5)).has_value());
  CHECK_FALSE(queue.AllDone());
  CHECK(queue.DoneShare() == .5);
  CHECK(queue.Complete(8, DoneOf(101, 6)) == 1u);
  CHECK(queue.AllDone());
  CHECK(progress.samples() == 11);
}

TEST_CASE("the done share counts what leased splits have done, as soon as their size in samples can be told") {
  EpochProgress progress;
  const auto splits = Splits(4);  // of 10 bytes
  WorkQueue queue(&progress, &splits, Work::TRAIN);
  queue.Begin(1, 0);
  CHECK(queue.DoneShare() == 0);
  REQUIRE(queue.Lease(7, 100) != nullptr);
  CHECK(queue.DoneShare() == 0);
  FindLease(&progress, 7, 100)->mutable_progress()->set_samples(3);
  CHECK(queue.DoneShare() < 0);  // 3 of how many?
  CHECK(queue.DoneShare(1) == Approx(.075));
  CHECK(queue.DoneShare(.1) == Approx(.25));  // never beyond the split
  REQUIRE(queue.Complete(7, DoneOf(100, 5)));
  REQUIRE(queue.Lease(7, 101) != nullptr);
  FindLease(&progress, 7, 101)->mutable_progress()->set_samples(2);
  CHECK(queue.DoneShare() == Approx(.25 + .1));  // half a sample a byte
  CHECK(queue.GiveBack(7));
  CHECK(queue.DoneShare() == Approx(.25));
}

TEST_CASE("a queue over stored progress leases only what is neither done nor leased") {
  EpochProgress progress;
  const auto splits = Splits(3);
  WorkQueue before(&progress, &splits, Work::TRAIN);
  before.Begin(1, 5);
  before.Lease(1, 1);
  before.Lease(2, 2);
  before.Complete(1, DoneOf(1));
  WorkQueue after(&progress, &splits, Work::TRAIN);
  after.Begin(1, 5);
  std::set<uint32_t> seen;
  for (const LeaseRecord& lease : progress.leases()) seen.insert(lease.split());
  for (uint32_t s : progress.done()) seen.insert(s);
  const LeaseRecord* last = after.Lease(3, 3);
  REQUIRE(last != nullptr);
  CHECK(seen.insert(last->split()).second);
  CHECK_FALSE(after.AnyFree());
}

TEST_CASE("of files, and of nothing else, the planned sizes can be told from the splits") {
  std::vector<Split> files = Splits(3);
  for (Split& split : files) split.set_file("a");
  files[1].set_source(1);
  CHECK(PlannedFileBytes(files) == std::vector<uint64_t>{30, 20});
  CHECK(PlannedFileBytes(Splits(2)).empty());  // generated rows
  files[2].set_sequential(true);
  CHECK(PlannedFileBytes(files).empty());
}

TEST_CASE("the order of splits follows from the seed") {
  const auto splits = Splits(50);
  const auto order = [&](uint64_t seed) {
    EpochProgress progress;
    WorkQueue queue(&progress, &splits, Work::TRAIN);
    queue.Begin(1, seed);
    std::vector<uint32_t> out;
    for (uint64_t w = 1; queue.AnyFree(); ++w) out.push_back(queue.Lease(w, w)->split());
    return out;
  };
  CHECK(order(1) == order(1));
  CHECK(order(1) != order(2));
  const std::vector<uint32_t> unshuffled = order(0);
  CHECK(std::is_sorted(unshuffled.begin(), unshuffled.end()));
}

struct Steps {
  EpochProgress progress;
  SyncPlan plan{&progress};
  uint64_t leases = 0;

  void Start(std::vector<Incarnation> members, Clock clock = 0, uint64_t steps = 10) {
    plan.Start(members, 1, clock, steps, [this] { return ++leases; });
  }
  const Work& WorkOf(Incarnation worker) { return FindLeaseOf(&progress, worker)->work(); }
  WorkDone Upto(Incarnation worker, uint64_t next_step) {
    WorkDone done = DoneOf(WorkOf(worker).lease());
    done.set_next_step(next_step);
    return done;
  }
};

TEST_CASE("a group gives every rank of the world the same steps") {
  Steps s;
  s.Start({5, 9}, 42);
  CHECK(s.WorkOf(5).sync().rank() == 0);
  CHECK(s.WorkOf(9).sync().rank() == 1);
  for (Incarnation worker : {5, 9}) {
    CHECK(s.WorkOf(worker).sync().world() == 2);
    CHECK(s.WorkOf(worker).sync().first_step() == 0);
    CHECK(s.WorkOf(worker).sync().end_step() == 10);
    CHECK(s.WorkOf(worker).start_clock() == 42);
  }
  CHECK(s.plan.Complete(5, s.Upto(5, 10)));
  CHECK(s.plan.Running());
  CHECK(s.plan.StepsDone() == 0);
  CHECK(s.plan.Complete(9, s.Upto(9, 10)));
  CHECK_FALSE(s.plan.Running());
  CHECK(s.plan.StepsDone() == 10);
  s.Start({5}, 52);
  CHECK(s.WorkOf(5).sync().first_step() == 10);
}

TEST_CASE("what a rank had not done is left over with its rank and world") {
  Steps s;
  s.Start({5, 9});
  *FindLeaseOf(&s.progress, 9)->mutable_progress() = s.Upto(9, 4);
  FindLeaseOf(&s.progress, 9)->mutable_progress()->set_samples(40);
  CHECK(s.plan.GiveBack(9));
  CHECK(s.progress.samples() == 40);
  CHECK(s.plan.Complete(5, s.Upto(5, 10)));
  CHECK(s.plan.NextIsLeftover());
  CHECK(s.plan.StepsDone() == 4);
  s.Start({5});
  CHECK(s.WorkOf(5).sync().first_step() == 4);
  CHECK(s.WorkOf(5).sync().end_step() == 10);
  CHECK(s.WorkOf(5).sync().rank() == 1);
  CHECK(s.WorkOf(5).sync().world() == 2);
}

TEST_CASE("where only the slowest are not done with a group they can be ended, and leave nothing over") {
  Steps s;
  s.Start({5, 9, 11});
  CHECK_FALSE(s.plan.OnlySlowestLeft(2));
  CHECK(s.plan.Complete(5, s.Upto(5, 10)));
  CHECK_FALSE(s.plan.OnlySlowestLeft(1));
  CHECK(s.plan.OnlySlowestLeft(2));
  CHECK(s.plan.Complete(9, s.Upto(9, 10)));
  CHECK(s.plan.OnlySlowestLeft(1));
  CHECK_FALSE(s.plan.OnlySlowestLeft(0));
  *FindLeaseOf(&s.progress, 11)->mutable_progress() = s.Upto(11, 4);
  FindLeaseOf(&s.progress, 11)->mutable_progress()->set_samples(40);
  const WorkDone late = s.Upto(11, 10);
  const uint64_t before = s.progress.samples();
  CHECK(s.plan.EndSlowest() == std::vector<Incarnation>{11});
  CHECK(s.progress.samples() == before + 40);
  CHECK_FALSE(s.plan.Running());
  CHECK_FALSE(s.plan.NextIsLeftover());
  CHECK(s.plan.StepsDone() == 10);
  CHECK_FALSE(s.plan.Complete(11, late));
  // One that works alone is never the slowest.
  s.Start({5}, 10);
  CHECK_FALSE(s.plan.OnlySlowestLeft(3));
}

TEST_CASE("the end of the data ends the epoch once every slice before it is done") {
  Steps s;
  s.Start({5, 9});
  WorkDone end = s.Upto(5, 7);
  end.set_end_of_data(true);
  end.set_end_of_data_step(7);
  CHECK(s.plan.Complete(5, end));
  CHECK_FALSE(s.plan.AllDone());
  CHECK(s.plan.GiveBack(9));  // died before it had done anything
  CHECK(s.plan.HasNext());
  s.Start({5});
  CHECK(s.WorkOf(5).sync().end_step() == 7);
  CHECK(s.plan.Complete(5, s.Upto(5, 7)));
  CHECK(s.plan.AllDone());
}

TEST_CASE("ranks that find other ends of the data are told apart, whichever is first") {
  for (const bool short_first : {true, false}) {
    Steps s;
    s.Start({5, 9});
    WorkDone end = s.Upto(5, 7);
    end.set_end_of_data(true);
    end.set_end_of_data_step(7);
    WorkDone more = s.Upto(9, 10);
    CHECK(s.plan.Complete(short_first ? 5 : 9, short_first ? end : more));
    CHECK(s.plan.Disagreement().empty());
    CHECK(s.plan.Complete(short_first ? 9 : 5, short_first ? more : end));
    CHECK_THAT(s.plan.Disagreement(), Catch::Contains("7 steps for one worker, and at least 10"));
  }
  Steps s;
  s.Start({5, 9});
  for (Incarnation worker : {5, 9}) {
    WorkDone end = s.Upto(worker, worker);
    end.set_end_of_data(true);
    end.set_end_of_data_step(worker);
    CHECK(s.plan.Complete(worker, end));
  }
  CHECK_THAT(s.plan.Disagreement(), Catch::Contains("5 steps for one worker, and at least 9"));
}

TEST_CASE("ranks that find the same end agree, also where the work was to end before") {
  Steps s;
  s.progress.set_end_known(true);  // train.limit_steps
  s.progress.set_end_step(7);
  s.Start({5, 9});
  for (Incarnation worker : {5, 9}) CHECK(s.plan.Complete(worker, s.Upto(worker, 7)));
  CHECK(s.plan.AllDone());
  CHECK(s.plan.Disagreement().empty());
  CHECK(s.progress.data_end() == 0);
}

TEST_CASE("leftovers beyond the end of the data vanish when the end is learned") {
  Steps s;
  s.Start({5, 9});
  *FindLeaseOf(&s.progress, 9)->mutable_progress() = s.Upto(9, 8);
  s.plan.GiveBack(9);
  REQUIRE(s.plan.NextIsLeftover());
  WorkDone end = s.Upto(5, 8);
  end.set_end_of_data(true);
  end.set_end_of_data_step(8);
  s.plan.Complete(5, end);
  CHECK(s.plan.AllDone());
}

TEST_CASE("evaluation scores are taken once per split, in the order of the splits") {
  const auto splits = Splits(2);
  JobConfig job;
  job.mutable_model()->add_task()->set_name("click");
  Evaluation evaluation(&splits);
  evaluation.Begin(1);
  evaluation.queue().Lease(1, 11);
  evaluation.queue().Lease(2, 12);
  const auto scored = [](uint64_t lease, std::vector<float> p, std::vector<float> y) {
    WorkDone done = DoneOf(lease);
    TaskScores* scores = done.add_scores();
    scores->set_task("click");
    scores->set_probabilities(Floats(std::move(p)));
    scores->set_labels(Floats(std::move(y)));
    return done;
  };
  CHECK(evaluation.Take(job, 2, scored(12, {.9f, .3f}, {1, 0})).ok());
  CHECK(evaluation.Take(job, 2, scored(12, {.9f, .3f}, {0, 1})).ok());  // a late copy
  CHECK_FALSE(evaluation.queue().AllDone());
  CHECK(evaluation.Take(job, 1, scored(11, {.2f, .8f}, {0, 1})).ok());
  REQUIRE(evaluation.queue().AllDone());
  const auto metrics = evaluation.Metrics(job);
  CHECK(metrics[0].name() == "valid/click/auc");
  CHECK(metrics[0].value() == 1);
  CHECK(metrics[3].value() == 4);
}

TEST_CASE("scores of mismatched lengths are refused whole") {
  const auto splits = Splits(1);
  Evaluation evaluation(&splits);
  evaluation.Begin(1);
  evaluation.queue().Lease(1, 11);
  JobConfig job;
  job.mutable_model()->add_task()->set_name("click");
  WorkDone done = DoneOf(11);
  done.add_scores()->set_task("click");
  done.mutable_scores(0)->set_probabilities(Floats({.5f}));
  CHECK(absl::IsInvalidArgument(evaluation.Take(job, 1, done)));
  CHECK_FALSE(evaluation.queue().AllDone());
  done.mutable_scores(0)->set_labels(Floats({1}));
  done.mutable_scores(0)->set_task("clock");
  CHECK_THAT(std::string(evaluation.Take(job, 1, done).message()), Catch::Contains("no task is named \"clock\""));
  done.mutable_scores(0)->set_task("click");
  CHECK(evaluation.Take(job, 1, done).ok());
}

TEST_CASE("a group counts once, also where its rows are in two splits; scores without groups are refused") {
  const auto splits = Splits(2);
  JobConfig job;
  TaskConfig* task = job.mutable_model()->add_task();
  task->add_metric(TaskConfig::HR);
  task->add_metric(TaskConfig::GAUC);
  task->set_top_k(2);
  Evaluation evaluation(&splits);
  evaluation.Begin(1);
  const auto scored = [](uint64_t lease, std::vector<float> p, std::vector<float> y, std::vector<uint64_t> g) {
    WorkDone done = DoneOf(lease);
    TaskScores* scores = done.add_scores();
    scores->set_task("click");
    scores->set_probabilities(Floats(std::move(p)));
    scores->set_labels(Floats(std::move(y)));
    scores->set_groups(std::string(reinterpret_cast<const char*>(g.data()), g.size() * 8));
    return done;
  };
  evaluation.queue().Lease(1, 11);
  evaluation.queue().Lease(2, 12);
  CHECK_THAT(std::string(evaluation.Take(job, 1, scored(11, {.5f}, {1}, {})).message()),
             Catch::Contains("task \"click\": no group ids"));
  // User 7: the positive (.5) is third of all; alone in the first split it would be the first.
  REQUIRE(evaluation.Take(job, 1, scored(11, {.5f, .9f}, {1, 1}, {7, 8})).ok());
  REQUIRE(evaluation.Take(job, 2, scored(12, {.6f, .7f, .1f}, {0, 0, 0}, {7, 7, 8})).ok());
  const auto metrics = evaluation.Metrics(job);
  REQUIRE(metrics.size() == 4);
  CHECK(metrics[0].name() == "valid/click/hr@2");
  CHECK(metrics[0].value() == .5);
  CHECK(metrics[1].name() == "valid/click/gauc");
  CHECK(metrics[1].value() == Approx(2 / 5.0));  // 0 with weight 3, 1 with weight 2
  CHECK(metrics[2].name() == "valid/click/groups");
  CHECK(metrics[2].value() == 2);
}

TEST_CASE("a member is silent after a lease, not earlier, and not after a pause of the scheduler") {
  FailureDetector detector(1000);
  detector.Heard(1, 0);
  detector.Heard(2, 0);
  CHECK(detector.Wakes(0, 300));
  CHECK(detector.Tick(0).empty());
  CHECK(detector.Wakes(299, 300));
  CHECK_FALSE(detector.Wakes(300, 300));
  for (TimeMs now = 100; now <= 1000; now += 100) CHECK(detector.Tick(now).empty());
  detector.Heard(2, 900);
  CHECK(detector.Tick(1100) == std::vector<Incarnation>{1});
  CHECK(detector.SilentMs(1, 1100) == 1100);
  CHECK_FALSE(detector.Wakes(1500, 300));
  CHECK(detector.Wakes(1700, 300));
  CHECK(detector.Tick(1700).empty());  // a gap of more than half a lease: renewed
  CHECK(detector.Wakes(1999, 300));
  CHECK_FALSE(detector.Wakes(2000, 300));
  CHECK(detector.Tick(2100).empty());
  CHECK(detector.Tick(2600).empty());
  CHECK(detector.Tick(2701) == std::vector<Incarnation>{1, 2});
  detector.Forget(1);
  CHECK(detector.Tick(2800) == std::vector<Incarnation>{2});
}

TEST_CASE("after a start or a pause of the scheduler a short lease lasts as long as members may take to come back") {
  FailureDetector detector(400, 3000);
  detector.Heard(1, 0);
  const auto first_dead = [&](TimeMs now, TimeMs end) {
    for (; now <= end; now += 100) {
      if (!detector.Tick(now).empty()) return now;
    }
    return TimeMs{-1};
  };
  CHECK(detector.Tick(0).empty());
  CHECK(detector.SilentMs(1, 100) == 0);
  CHECK(first_dead(100, 9000) == 3100);
  detector.Heard(1, 3200);
  CHECK(first_dead(3200, 9000) == 3700);  // heard meanwhile: a lease
  CHECK(first_dead(4000, 9000) == 7100);  // a gap
}

}  // namespace
}  // namespace tidegate
