#include "cli/status_text.h"

#include <catch2/catch.hpp>

#include "cli/json.h"

namespace tidegate::cli {
namespace {

GetStatusResponse Training() {
  GetStatusResponse status;
  status.set_job("deepfm");
  status.set_phase(TRAINING);
  status.set_epoch(3);
  status.set_epochs(20);
  status.set_progress(0.5);
  status.set_samples_per_second(152345);
  for (int i = 0; i < 2; ++i) {
    MemberStatus* member = status.add_members();
    member->set_alive(true);
    member->set_state("live");
    member->mutable_member()->set_role(WORKER);
    WorkerLoad* load = member->mutable_worker_load();
    load->set_samples_total(10);
    load->set_loss(i == 0 ? 0.25 : 0.75);
    load->set_compute(0.6);
    load->set_pull_wait(i == 0 ? 0.2 : 0.9);
  }
  EpochResult* result = status.add_results();
  result->set_epoch(2);
  MetricValue* metric = result->add_metrics();
  metric->set_name("valid/click/auc");
  metric->set_value(0.78125);
  return status;
}

TEST_CASE("the progress line has epoch, share, rate, loss, AUC and the limit") {
  CHECK(ProgressLine(Training(), 0) ==
        "epoch 3/20 [##########..........]  50%  152k samples/s  loss 0.5000  valid AUC 0.7812  limited by compute (60%)");
  CHECK(ProgressLine(Training(), 10) == "epoch 3/20");
}

TEST_CASE("a slow worker is seen to be behind; one that is not live is not judged") {
  GetStatusResponse status = Training();
  status.set_clock(101);
  status.mutable_members(0)->mutable_worker_load()->set_clock(100);
  status.mutable_members(1)->mutable_worker_load()->set_clock(93);
  CHECK(ClockLag(status, status.members(0)) == 0);
  CHECK(ClockLag(status, status.members(1)) == 7);
  const std::string report = StatusReport(status);
  CHECK(report.find("clock 93, 7 behind") != std::string::npos);
  CHECK(report.find("clock 100  ") != std::string::npos);
  CHECK(StatusObject(status).Build().find("\"clock_lag\": 7") != std::string::npos);
  status.mutable_members(1)->set_state("parked");
  CHECK_FALSE(ClockLag(status, status.members(1)).has_value());
  status.mutable_members(1)->set_state("live");
  status.mutable_members(1)->mutable_worker_load()->set_samples_total(0);
  CHECK_FALSE(ClockLag(status, status.members(1)).has_value());
  MemberStatus server = status.members(0);
  server.mutable_member()->set_role(SERVER);
  CHECK_FALSE(ClockLag(status, server).has_value());
}

TEST_CASE("a job with replicas says what copies it lacks, and which a server follows") {
  GetStatusResponse status = Training();
  CHECK(ReplicasLine(status).empty());
  status.set_replicas(2);
  CHECK(ReplicasLine(status).empty());  // not placed yet
  status.mutable_routing()->set_epoch(4);
  status.mutable_routing()->set_shards(128);
  CHECK(ReplicasLine(status) == "2 copies of each shard, some are being moved\n");
  status.set_settled(true);
  CHECK(ReplicasLine(status) == "2 copies of each shard\n");
  status.set_degraded_shards(12);
  status.set_failovers_total(1);
  CHECK(ReplicasLine(status) == "2 copies of each shard; degraded: 12 of 128 have fewer in sync; 1 failover\n");
  CHECK(StatusReport(status).find("degraded: 12 of 128") != std::string::npos);
  MemberStatus server;
  server.set_shards(64);
  CHECK(CopiesText(server) == "64");
  server.set_backups(60);
  CHECK(CopiesText(server) == "64+60");
  server.set_filling(4);
  CHECK(CopiesText(server) == "64+60+4?");
}

TEST_CASE("the progress line has the training stream's metric, a learning rate that changes, and other metrics than AUC") {
  GetStatusResponse status = Training();
  MetricValue* metric = status.add_progressive();
  metric->set_name("train/click/auc");
  metric->set_value(0.75);
  status.set_learning_rate_factor(0.125);
  status.mutable_results(0)->mutable_metrics(0)->set_name("valid/click/hr@10");
  const std::string line = ProgressLine(status, 0);
  INFO(line);
  CHECK(line.find("loss 0.5000  train AUC 0.7500  valid hr@10 0.7812  lr x 0.125  limited by") != std::string::npos);
  status.set_clock(77);
  CHECK(StatusReport(status).find("clock 77, learning rates x 0.125\n  train/click/auc 0.7500\n") != std::string::npos);
  auto json = ParseJson(StatusObject(status).Build());
  REQUIRE(json.ok());
  CHECK(NumberField(*json, "learning_rate_factor", 0) == 0.125);
  CHECK(NumberField(Field(*json, "progressive")->struct_value(), "train/click/auc", 0) == 0.75);
}

TEST_CASE("shares stay below 100 %, a limit below 1 % is none, and nothing is cut off without a width") {
  GetStatusResponse status = Training();
  status.set_progress(1.04);
  for (int i = 0; i < 2; ++i) status.mutable_members(i)->mutable_worker_load()->set_compute(3);
  const std::string over = ProgressLine(status, 0);
  INFO(over);
  CHECK(over.find("] 100%") != std::string::npos);
  CHECK(over.find("limited by compute (100%)") != std::string::npos);
  for (int i = 0; i < 2; ++i) {
    status.mutable_members(i)->mutable_worker_load()->set_compute(0.004);
    status.mutable_members(i)->mutable_worker_load()->set_pull_wait(0.002);
  }
  CHECK(ProgressLine(status, 0).find("limited by") == std::string::npos);
  status.mutable_results(0)->mutable_metrics(0)->set_name("valid/click/" + std::string(200, 'm'));
  CHECK(ProgressLine(status, 0).size() > 250);
}

TEST_CASE("the limit is the largest mean share of the living workers") {
  GetStatusResponse status = Training();
  status.mutable_members(0)->set_alive(false);
  CHECK(LargestWait(status).name == "pull wait");
  CHECK(LargestWait(status).share == Approx(0.9));
  status.mutable_members(1)->set_alive(false);
  CHECK(LargestWait(status).share == 0);
}

TEST_CASE("before the start it says who is there") {
  GetStatusResponse status = Training();
  status.set_phase(STARTING);
  status.set_message("waits for 2 more servers");
  CHECK(ProgressLine(status, 0) == "starting: 0 servers and 2 workers have joined; waits for 2 more servers");
}

TEST_CASE("the JSON status parses and has the members") {
  auto json = ParseJson(StatusObject(Training()).Build());
  REQUIRE(json.ok());
  CHECK(TextField(*json, "phase") == "training");
  CHECK(NumberField(*json, "epoch", 0) == 3);
  CHECK(Field(*json, "members")->list_value().values_size() == 2);
  const auto& result = Field(*json, "results")->list_value().values(0).struct_value();
  CHECK(NumberField(Field(result, "metrics")->struct_value(), "valid/click/auc", 0) == 0.78125);
}

TEST_CASE("numbers are short") {
  CHECK(ShortNumber(0) == "0");
  CHECK(ShortNumber(999) == "999");
  CHECK(ShortNumber(1234) == "1.2k");
  CHECK(ShortNumber(34.4e6) == "34.4M");
  CHECK(ShortBytes(1.5e9) == "1.5 GB");
}

TEST_CASE("a JSON object escapes its texts and writes no NaN") {
  const std::string json = JsonObject().Text("a\"", "x\n\\").Number("b", 0.0 / 0.0).Integer("c", -1).Bool("d", true).Build();
  CHECK(json == "{\"a\\\"\": \"x\\u000a\\\\\", \"b\": null, \"c\": -1, \"d\": true}");
  CHECK(ParseJson(json).ok());
  CHECK_FALSE(ParseJson("{\"a\": ").ok());
}

}  // namespace
}  // namespace tidegate::cli
