#include "cli/top_view.h"

#include <catch2/catch.hpp>

namespace tidegate::cli {
namespace {

Observation Seen(TimeMs at, uint64_t pulled, uint64_t samples) {
  Observation seen;
  seen.at_ms = at;
  seen.status.set_job("clicks");
  seen.status.set_phase(TRAINING);
  seen.status.set_epoch(1);
  seen.status.set_epochs(3);
  MemberStatus* server = seen.status.add_members();
  server->mutable_member()->set_incarnation(1);
  server->mutable_member()->set_role(SERVER);
  server->mutable_member()->set_name("server/0");
  server->set_alive(true);
  server->set_state("live");
  server->mutable_server_load()->set_pulled_rows_total(pulled);
  MemberStatus* worker = seen.status.add_members();
  worker->mutable_member()->set_incarnation(2);
  worker->mutable_member()->set_role(WORKER);
  worker->mutable_member()->set_name("a name that is much too long for its column");
  worker->set_alive(true);
  worker->set_silent_ms(2400);
  worker->mutable_worker_load()->set_samples_total(samples);
  worker->mutable_worker_load()->set_loss(0.25);
  worker->mutable_worker_load()->set_pull_wait(0.5);
  return seen;
}

std::string LineWith(const std::string& screen, const std::string& word) {
  const size_t at = screen.find(word);
  REQUIRE(at != std::string::npos);
  const size_t begin = screen.rfind('\n', at) + 1;
  return screen.substr(begin, screen.find('\n', at) - begin);
}

TEST_CASE("rates are differences of two looks; the first look has none") {
  const Observation first = Seen(1000, 5000, 100), second = Seen(3000, 45000, 9100);
  const std::string before = TopScreen(first, nullptr, 0, 0);
  CHECK_THAT(LineWith(before, "server 1"), Catch::Contains("live") && !Catch::Contains("/s"));
  const std::string after = TopScreen(second, &first, 0, 0);
  CHECK_THAT(LineWith(after, "server 1"), Catch::Contains("20.0k/s"));
  CHECK_THAT(LineWith(after, "worker 2"), Catch::Contains("4.5k/s") && Catch::Contains("0.2500") && Catch::Contains(" 50%"));
  CHECK_THAT(LineWith(after, "worker 2"), Catch::Contains("silent 2s") && Catch::Contains("a name that is much "));
  // A scheduler that came back has counters that begin anew.
  CHECK_THAT(LineWith(TopScreen(first, &second, 0, 0), "server 1"), !Catch::Contains("/s"));
}

TEST_CASE("a screen keeps to its columns and lines") {
  Observation seen = Seen(0, 0, 0);
  for (int i = 0; i < 40; ++i) seen.status.add_events(std::string(300, 'x'));
  const std::string screen = TopScreen(seen, nullptr, 60, 8);
  CHECK(std::count(screen.begin(), screen.end(), '\n') == 8);
  size_t longest = 0;
  for (size_t at = 0; at < screen.size();) {
    const size_t end = screen.find('\n', at);
    longest = std::max(longest, end - at);
    at = end + 1;
  }
  CHECK(longest == 60);
}

TEST_CASE("staleness is shown as shares of pulls, the rest in the last") {
  GetStatusResponse status;
  CHECK(StalenessLine(status).empty());
  for (const uint64_t n : {0, 0}) status.add_staleness_histogram(n);
  CHECK(StalenessLine(status).empty());
  status.clear_staleness_histogram();
  for (const uint64_t n : {50, 30, 20, 0}) status.add_staleness_histogram(n);
  CHECK(StalenessLine(status) == "staleness of pulls  0: 50%  1: 30%  2: 20%");
  status.clear_staleness_histogram();
  for (int i = 0; i < 10; ++i) status.add_staleness_histogram(10);
  CHECK(StalenessLine(status) == "staleness of pulls  0: 10%  1: 10%  2: 10%  3: 10%  4: 10%  5: 10%  6 or more: 40%");
}

}  // namespace
}  // namespace tidegate::cli
