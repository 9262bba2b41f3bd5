#include "cli/chaos/accounting_workload.h"

#include <catch2/catch.hpp>

namespace tidegate::cli {
namespace {

using Acknowledgements = std::vector<AccountingWorker::Acknowledgement>;

}  // namespace

TEST_CASE("recovery is over when every shard has acknowledged a push that was not on its way at the fault") {
  const Acknowledgements acks = {{990, 1}, {1005, 1}, {1010, 2}, {1400, 2}, {1900, 1}};
  const Recovery partly = RecoveryOfPushes(std::span(acks).first(4), {{1, 2}, {}}, 1000);
  CHECK_FALSE(partly.done);
  CHECK(partly.first_ms == 400);
  CHECK_THAT(partly.waits_for, Catch::Contains("shard 1 and 0 others"));
  const Recovery all = RecoveryOfPushes(acks, {{1, 2}, {}}, 1000);
  CHECK(all.done);
  CHECK(all.first_ms == 400);
  CHECK(all.all_ms == 900);
}

TEST_CASE("the longest pause of shards without a copy there counts from the fault to the recovery") {
  const Acknowledgements acks = {{900, 7}, {1100, 7}, {1150, 8}, {1450, 7}, {1500, 1}, {4000, 7}};
  CHECK(RecoveryOfPushes(acks, {{1}, {7, 8}}, 1000).elsewhere_ms == 300);
  CHECK(RecoveryOfPushes(acks, {{1}, {8}}, 1000).elsewhere_ms == 350);  // 7 only lost a copy; nothing came after 1150
  CHECK(RecoveryOfPushes(acks, {{1}, {9}}, 1000).elsewhere_ms == 500);
  CHECK(RecoveryOfPushes(acks, {{1}, {}}, 1000).elsewhere_ms == -1);
}

TEST_CASE("a shard's longest gap reaches from the start to the end, too") {
  const Acknowledgements acks = {{1100, 1}, {1150, 2}, {1200, 7}, {1500, 1}, {1900, 1}};
  CHECK(LongestGapOfPushes(acks, {1}, 1000, 2000) == 400);
  CHECK(LongestGapOfPushes(acks, {1}, 1000, 2500) == 600);
  CHECK(LongestGapOfPushes(acks, {1, 2}, 1000, 2000) == 850);
  CHECK(LongestGapOfPushes(acks, {3}, 1000, 2000) == 1000);
}

}  // namespace tidegate::cli
