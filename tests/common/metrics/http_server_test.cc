#include "common/metrics/http_server.h"

#include <httplib.h>

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

TEST_CASE("pages are made anew for each request; everything else is a 404 page that names what there is") {
  int asked = 0;
  auto server = HttpServer::Start("--http_port", "127.0.0.1", 0,
                                  {{"/", "text/html; charset=utf-8", [] { return std::string("<p>home"); }},
                                   {"/api/count", "application/json", [&] { return std::to_string(++asked); }}});
  REQUIRE(server.ok());
  CHECK((*server)->url() == "http://127.0.0.1:" + std::to_string((*server)->port()));
  httplib::Client client("127.0.0.1", (*server)->port());
  CHECK(client.Get("/api/count")->body == "1");
  const auto second = client.Get("/api/count");
  CHECK(second->body == "2");
  CHECK(second->get_header_value("Content-Type") == "application/json");
  CHECK(client.Get("/")->body == "<p>home");
  for (const char* path : {"/nothing", "/api", "/api/count/x", "/../etc/passwd", "/%3Cscript%3E"}) {
    const auto missing = client.Get(path);
    REQUIRE(missing);
    CHECK(missing->status == 404);
    CHECK(missing->body.find("there is no such page") != std::string::npos);
    CHECK(missing->body.find("href=\"/api/count\"") != std::string::npos);
    CHECK(missing->body.find("<script>") == std::string::npos);
  }
  CHECK(client.Post("/api/count", "x", "text/plain")->status == 404);
  CHECK(asked == 2);
}

TEST_CASE("a port that is taken is refused by flag and address") {
  auto first = HttpServer::Start("--http_port", "127.0.0.1", 0, {});
  REQUIRE(first.ok());
  auto second = HttpServer::Start("--http_port", "127.0.0.1", (*first)->port(), {});
  REQUIRE(absl::IsUnavailable(second.status()));
  CHECK_THAT(std::string(second.status().message()),
             Catch::Contains("--http_port=" + std::to_string((*first)->port())) && Catch::Contains("127.0.0.1:"));
}

}  // namespace
}  // namespace tidegate
