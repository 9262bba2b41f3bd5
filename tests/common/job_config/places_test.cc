#include "common/job_config/places.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "common/job_config/job_config.h"

namespace tidegate {
namespace {

const char* kText = R"(name: "job"
data {
  format: LIBSVM
  train { files: "/a" }
}
feature { name: "f{1..3}" column: "#{1..3}" table: "emb" }
feature { name: "x" column: "#9" numeric {} }
table {
  name: "emb"
  part {
    name: "v"
    dim: 4
    adam { lr: 0.1 }
  }
}
model {
  block { name: "deep" mlp { in: "emb.v" units: [4, 1] } }
  block { name: "sum"
    sum {
      in: "deep"
      in: "x"
    }
  }
  task { logit: "sum" }
}
train { epochs: 2 }
)";

JobConfigDraft Draft(const std::string& text, const std::vector<std::string>& overrides = {}) {
  auto draft = ParseJobConfigDraft(text, "j", overrides);
  INFO(draft.status());
  REQUIRE(draft.ok());
  return *std::move(draft);
}

std::string PlaceOf(const JobConfigDraft& draft, const std::string& problem) {
  const std::string placed = draft.places.Placed(problem);
  REQUIRE(placed.size() > problem.size() + 2);
  CHECK(placed.substr(placed.size() - problem.size()) == problem);
  return placed.substr(0, placed.size() - problem.size() - 2);
}

TEST_CASE("a problem is placed at the field that it names") {
  const JobConfigDraft draft = Draft(kText);
  CHECK(draft.problems.empty());
  struct Case { const char *problem, *place; };
  const Case cases[] = {
      {"train.epochs is 2", "j:26:9"},
      {"train.plateau.monitor: none", "j:26:1"},
      {"data.train.files: no file", "j:4:11"},
      {"feature \"x\": column \"#9\": no", "j:7:21"},
      {"feature \"f2\": table \"emb\" does not exist", "j:6:45"},
      {"feature \"f1\" and 2 more (to \"f3\"): column \"#1\": no", "j:6:27"},
      {"table \"emb\": part \"v\": dim is 0", "j:12:5"},
      {"table \"emb\": part \"v\": adam.lr is 0", "j:13:12"},
      {"block \"deep\": mlp.dropout is 2", "j:17:24"},
      {"block \"sum\": input \"x\" is no block", "j:21:7"},
      {"block \"sum\" is there twice", "j:18:3"},
      {"task \"click\": logit \"sum\" is no block", "j:24:10"},
      {"model.preset LR: wide", "j:16:1"},
  };
  for (const Case& c : cases) CHECK(PlaceOf(draft, c.problem) == c.place);
}

TEST_CASE("what the text does not have is placed at the file") {
  const JobConfigDraft draft = Draft(kText);
  for (const char* problem : {"cluster.shards is 3", "feature \"nope\": column \"#1\": no", "no such thing", "", "feature \"", "feature \"f9\": x",
                              "block", "data.", "table \"emb"}) {
    INFO(problem);
    CHECK(draft.places.Placed(problem).substr(0, 2) == "j:");
    CHECK(draft.places.Placed(problem).find(problem) != std::string::npos);
  }
  CHECK(PlaceOf(draft, "cluster.shards is 3") == "j");
  CHECK(PlaceOf(draft, "feature \"nope\": column \"#1\": no") == "j");
  CHECK(ConfigPlaces("other").Placed("a\nb") == "other: a\nother: b");
}

TEST_CASE("what an override set is placed there") {
  const JobConfigDraft draft = Draft(kText, {"train.epochs=0", "table.emb.part.v.adam={ lr: 0 }"});
  CHECK(PlaceOf(draft, "train.epochs is 0") == "--set train.epochs=0");
  CHECK(PlaceOf(draft, "table \"emb\": part \"v\": adam.lr is 0") == "--set table.emb.part.v.adam={ lr: 0 }");
  CHECK(PlaceOf(draft, "train.staleness: x") == "j:26:1");
  CHECK(PlaceOf(draft, "table \"emb\": part \"v\": dim is 0") == "j:12:5");
}

TEST_CASE("the second of two with one name is shown, and a problem that is there twice once") {
  const JobConfigDraft draft = Draft("feature { name: \"a\" }\nfeature { name: \"b\" }\nfeature { name: \"a\" }\n");
  CHECK(PlaceOf(draft, "feature \"a\" is there twice") == "j:3:1");
  CHECK(draft.places.Placed("x\nx") == "j: x");
}

TEST_CASE("every problem of a config has a place of its own") {
  std::string text = kText;
  text.replace(text.find("lr: 0.1"), 7, "lr: -1.");
  text.replace(text.find("epochs: 2"), 9, "epochs: 0");
  text.replace(text.find("\"emb\" }"), 7, "\"enb\" }");
  const std::string e(ParseJobConfig(text, "j").status().message());
  INFO(e);
  CHECK(e.find("j:6:45: feature \"f1\" and 2 more (to \"f3\"): table \"enb\" does not exist (did you mean \"emb\"?)") != std::string::npos);
  CHECK(e.find("j:13:12: table \"emb\": part \"v\": adam.lr is -1") != std::string::npos);
  CHECK(e.find("j:26:9: train.epochs") != std::string::npos);
}

}  // namespace
}  // namespace tidegate
