#include "common/metrics/metrics.h"

#include <httplib.h>

#include <catch2/catch.hpp>
#include <string>

namespace tidegate {

TEST_CASE("a page carries the process's metrics and those of every source") {
  MetricsRegistry registry("server");
  int pages = 0;
  registry.AddSource([&](MetricsPage& page) {
    page.Counter("tidegate_rows_total", "Rows", 41 + ++pages, {{"table", "emb"}});
    page.Counter("tidegate_rows_total", "Rows", 7, {{"table", "wide"}});
  });
  registry.AddSource([](MetricsPage& page) {
    const double bounds[] = {0, 1};
    const uint64_t counts[] = {5, 2, 1};
    page.Histogram("tidegate_staleness", "Staleness", bounds, counts, 4);
  });
  const std::string text = registry.Text();
  CHECK(text.find("# TYPE tidegate_rows_total counter") != std::string::npos);
  CHECK(text.find("tidegate_rows_total{table=\"emb\"} 42") != std::string::npos);
  CHECK(text.find("tidegate_rows_total{table=\"wide\"} 7") != std::string::npos);
  CHECK(text.find("tidegate_staleness_bucket{le=\"1\"} 7") != std::string::npos);
  CHECK(text.find("tidegate_staleness_bucket{le=\"+Inf\"} 8") != std::string::npos);
  CHECK(text.find("tidegate_staleness_count 8") != std::string::npos);
  CHECK(text.find("process_cpu_seconds_total") != std::string::npos);
  CHECK(text.find("tidegate_up{role=\"server\"} 1") != std::string::npos);
  const size_t at = text.find("process_resident_memory_bytes ");
  REQUIRE(at != std::string::npos);
  CHECK(std::stod(text.substr(text.find("\nprocess_resident_memory_bytes ") + 31)) > 1e6);
}

TEST_CASE("/metrics is served, and a taken port is an error that names the flag") {
  MetricsRegistry registry("worker");
  auto server = MetricsServer::Start(&registry, "127.0.0.1", 0);
  REQUIRE(server.ok());
  httplib::Client client("127.0.0.1", (*server)->port());
  const auto answer = client.Get("/metrics");
  REQUIRE(answer);
  CHECK(answer->status == 200);
  CHECK(answer->body.find("tidegate_up{role=\"worker\"} 1") != std::string::npos);
  CHECK(client.Get("/other")->status == 404);

  auto second = MetricsServer::Start(&registry, "127.0.0.1", (*server)->port());
  REQUIRE(!second.ok());
  CHECK(std::string(second.status().message()).find("--metrics_port") != std::string::npos);
}

}  // namespace tidegate
