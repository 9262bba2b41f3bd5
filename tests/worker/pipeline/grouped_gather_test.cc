#include "worker/pipeline/grouped_gather.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "common/job_config/job_config.h"
#include "worker/data/readers.h"

namespace tidegate {
namespace {

constexpr char kConfig[] = R"(
  data { format: GENERATED generator { cardinality: [10, 50, 300] } train { rows: 500 } }
  feature { name: "C{1..2}" id {} table: "a" }
  feature { name: "C3" id {} table: "b" }
  table { name: "a" part { name: "v" dim: 4 adam {} } }
  table { name: "b" admit_after: 3 unadmitted: FEATURE_OOV part { name: "v" dim: 4 adam {} } }
  dense { adam {} block: 8 }
  model { block { name: "z" mlp { in: ["a.v", "b.v"] units: [8, 1] } } task { logit: "z" } })";

Routing MakeRouting(uint32_t servers) {
  RoutingTable table;
  table.set_epoch(1);
  table.set_shards(16);
  for (uint32_t i = 0; i < 16; ++i) table.add_primary(10 + i % servers);
  for (uint32_t i = 0; i < servers; ++i) table.add_servers()->set_incarnation(10 + i);
  return *Routing::FromProto(table);
}

}  // namespace

TEST_CASE("grouped keys are the plain version's, each server's together") {
  auto job = ParseJobConfig(kConfig, "test");
  INFO(job.status().ToString());
  REQUIRE(job.ok());
  auto model = Model::Create(*job);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  auto readers = Readers::Create(*job);
  REQUIRE(readers.ok());
  auto source = (*readers)->OpenTrain(1);
  REQUIRE(source.ok());
  for (uint32_t servers : {1u, 3u}) {
    auto routing = std::make_shared<const Routing>(MakeRouting(servers));
    GroupedGather gather(model->get(), [&] { return routing; });
    Step plain, grouped;
    REQUIRE(*(*source)->Next(200, &plain.batch));
    grouped.batch = plain.batch;
    (*model)->Gather(&plain);
    gather(&grouped);
    REQUIRE(grouped.tables.size() == plain.tables.size());
    for (size_t t = 0; t < plain.tables.size(); ++t) {
      std::vector<Key> a = plain.tables[t].keys, b = grouped.tables[t].keys;
      std::sort(a.begin(), a.end());
      std::sort(b.begin(), b.end());
      CHECK(a == b);
    }
    for (size_t f = 0; f < plain.features.size(); ++f) {
      const TableId t = (*model)->TableOfFeature(f);
      const TableStep& table = grouped.tables[t];
      const auto& keys = plain.batch.features[f].keys;
      for (size_t i = 0; i < keys.size(); ++i) {
        const uint32_t at = grouped.features[f].position[i];
        REQUIRE(table.keys[at] == keys[i]);
        REQUIRE(table.counts[at] == plain.tables[t].counts[plain.features[f].position[i]]);
      }
      const std::optional<Key> oov = (*model)->OovKeyOfFeature(f);
      REQUIRE(oov.has_value() == (t == 1));
      if (oov) {
        CHECK(table.keys[grouped.features[f].oov_position] == *oov);
        CHECK(plain.tables[t].keys[plain.features[f].oov_position] == *oov);
        CHECK(table.counts[grouped.features[f].oov_position] == 0);
      }
      uint32_t last = 0;
      for (Key key : table.keys) {
        const uint32_t server = routing->ServerOfHash(PlacementHash(t, key));
        CHECK(server >= last);
        last = server;
      }
    }
  }
}

}  // namespace tidegate
