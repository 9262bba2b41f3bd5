#include "cli/job_report.h"

#include <catch2/catch.hpp>

#include "cli/json.h"

namespace tidegate::cli {
namespace {

constexpr char kSummary[] = R"({"samples": 2000, "seconds": 2, "samples_per_second": 1000, "best_epoch": 1,
  "checkpoint": "/tmp/c", "epochs": [
    {"epoch": 1, "seconds": 1, "samples": 1000, "metrics": {"train/loss": 0.5, "valid/click/auc": 0.8, "valid/click/logloss": 0.4}},
    {"epoch": 2, "seconds": 1, "samples": 1000, "metrics": {"train/loss": 0.3, "valid/click/auc": 0.7, "valid/click/logloss": null}}]})";

TEST_CASE("the table shows the best epoch beside the best attainable") {
  auto summary = ParseJson(kSummary);
  REQUIRE(summary.ok());
  AttainableMetrics attainable;
  attainable.auc = 0.81;
  attainable.logloss = 0.39;
  const std::string table = JobTable(*summary, attainable);
  INFO(table);
  CHECK(table.find("held-out rows     AUC 0.8000   log loss 0.4000\n") != std::string::npos);
  CHECK(table.find("best attainable   AUC 0.8100   log loss 0.3900") != std::string::npos);
  CHECK(table.find("1.0k/s: 2.0k in 2.0 s") != std::string::npos);
  CHECK(table.find("checkpoint        /tmp/c\n") != std::string::npos);
  CHECK(table.find("best\n    2") != std::string::npos);
}

TEST_CASE("the table shows what the checkpoint scores, and names a better epoch") {
  std::string text = kSummary;
  text.replace(text.find("/tmp/c"), 6, "/tmp/epoch-00002");
  auto summary = ParseJson(text);
  REQUIRE(summary.ok());
  const std::string table = JobTable(*summary, std::nullopt);
  INFO(table);
  CHECK(table.find("held-out rows     AUC 0.7000") != std::string::npos);
  CHECK(table.find("epoch 1 was better") != std::string::npos);
}

TEST_CASE("held-out metrics without an AUC stand by their names") {
  auto summary = ParseJson(R"({"best_epoch": 1, "epochs": [{"epoch": 1, "seconds": 1, "samples": 10, "metrics":
      {"train/loss": 0.5, "valid/click/hr@10": 0.69, "valid/click/ndcg@10": 0.415, "valid/click/groups": 6040}}]})");
  REQUIRE(summary.ok());
  const std::string table = JobTable(*summary, std::nullopt);
  INFO(table);
  CHECK(table.find("held-out rows     hr@10 0.6900   ndcg@10 0.4150\n") != std::string::npos);
  CHECK(table.find("groups") == std::string::npos);
}

TEST_CASE("a metric without a value is no zero") {
  auto summary = ParseJson(R"({"best_epoch": 1, "epochs": [{"epoch": 1, "seconds": 1, "samples": 10, "metrics":
      {"train/loss": 0.5, "valid/click/auc": null, "valid/click/logloss": 0.25, "valid/click/rows": 10}}]})");
  REQUIRE(summary.ok());
  const std::string table = JobTable(*summary, std::nullopt);
  INFO(table);
  CHECK(table.find("0.0000") == std::string::npos);
  CHECK(table.find("held-out rows     auc -   logloss 0.2500\n") != std::string::npos);
}

TEST_CASE("the next command can be pasted: a program here, quotes in paths, an export without held-out data") {
  CHECK(ShellQuoted("a/b-c_1.tsv") == "a/b-c_1.tsv");
  CHECK(ShellQuoted("it's *") == R"('it'\''s *')");
  CHECK(ShellQuoted("~x") == "'~x'");
  JobConfig config;
  CHECK(NextCommand(config, {"tidegate", "", "run", ""}).empty());
  CHECK(NextCommand(config, {"tidegate", "c/epoch-1", "my run", ""}) == "./tidegate export --checkpoint=c/epoch-1 --out='my run/export'");
  config.mutable_data()->mutable_valid();
  CHECK(NextCommand(config, {"bin/tidegate", "c 1", "run", ""}) == "bin/tidegate evaluate --checkpoint='c 1'");
  CHECK(NextCommand(config, {"/b/tidegate", "c", "run", "v'.tsv"}) == R"(/b/tidegate evaluate --checkpoint=c --data='v'\''.tsv')");
}

TEST_CASE("a model that is worth nothing is warned of, a good one is not") {
  const auto warning = [](const std::string& metrics, TaskConfig::Loss loss = TaskConfig::BCE) {
    JobConfig config;
    TaskConfig& task = *config.mutable_model()->add_task();
    task.set_name("click");
    task.set_loss(loss);
    task.set_weight(2);
    auto summary = ParseJson(R"({"best_epoch": 1, "checkpoint": "/c/epoch-00002", "epochs": [{"epoch": 1, "metrics": {"train/loss": null}},
        {"epoch": 2, "metrics": {)" + metrics + "}}]}");
    REQUIRE(summary.ok());
    return LossWarning(config, *summary);
  };
  CHECK(warning(R"("train/loss": 0.5, "valid/click/auc": 0.6, "valid/click/logloss": 0.6931)").empty());
  CHECK(warning(R"("train/loss": 13, "valid/click/auc": null, "valid/click/logloss": null)").empty());  // one class
  CHECK(warning("").empty());
  CHECK(warning(R"("valid/click/logloss": 0.6932)").find("valid/click/logloss is 0.6932, above") != std::string::npos);
  CHECK(warning(R"("valid/click/auc": 0.5)").find("order nothing") != std::string::npos);
  CHECK(warning(R"("train/loss": 14)").find("train/loss is 14, that of 0.5 for every row is 1.386") != std::string::npos);
  CHECK(warning(R"("train/loss": 253323781)", TaskConfig::MSE).empty());
  CHECK(warning(R"("train/loss": null)", TaskConfig::MSE).find("no finite number") != std::string::npos);
  CHECK(LossWarning(JobConfig(), *ParseJson("{}")).empty());
}

TEST_CASE("a job that is past train.epochs says so") {
  JobConfig config;
  config.mutable_train()->set_epochs(2);
  auto summary = ParseJson(kSummary);
  REQUIRE(summary.ok());
  CHECK(EpochsNote(config, *summary).empty());
  config.mutable_train()->set_epochs(1);
  CHECK(EpochsNote(config, *summary).find("train.epochs is 1, and the job has trained 2 already") != std::string::npos);
  CHECK(EpochsNote(config, *ParseJson("{}")).empty());
}

TEST_CASE("a summary without epochs still makes a table") {
  auto summary = ParseJson(R"({"samples": 0})");
  REQUIRE(summary.ok());
  CHECK(JobTable(*summary, std::nullopt).find("samples") != std::string::npos);
}

TEST_CASE("a field is added at the end of an object") {
  CHECK(*WithField("{}", "a", "1") == "{\n  \"a\": 1\n}\n");
  CHECK(*WithField("{\"b\": {}\n}\n", "a", "[]") == "{\"b\": {},\n  \"a\": []\n}\n");
  CHECK_FALSE(WithField("", "a", "1").ok());
  CHECK_FALSE(WithField("[1]", "a", "1").ok());
}

TEST_CASE("only generated data has a best attainable score") {
  JobConfig config;
  config.mutable_data()->set_format(DataConfig::LIBSVM);
  config.mutable_data()->mutable_valid()->set_rows(100);
  CHECK_FALSE(AttainableOf(config).has_value());
  config.mutable_data()->set_format(DataConfig::GENERATED);
  config.mutable_data()->mutable_generator()->add_cardinality(50);
  config.mutable_data()->mutable_generator()->add_cardinality(20);
  config.mutable_data()->mutable_valid()->set_first_row(1000);
  config.mutable_data()->mutable_valid()->set_rows(2000);
  const auto attainable = AttainableOf(config);
  REQUIRE(attainable.has_value());
  CHECK(attainable->rows == 2000);
  CHECK(attainable->auc > 0.5);
}

}  // namespace
}  // namespace tidegate::cli
