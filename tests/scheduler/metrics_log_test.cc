#include "scheduler/store/metrics_log.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "scheduler/store/event_file.h"

namespace tidegate {
namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() : path(fs::temp_directory_path() / ("metrics-log-" + std::to_string(getpid()))) { fs::remove_all(path); }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

MetricsRecord Record(Clock step, double auc) {
  MetricsRecord record;
  record.kind = "epoch";
  record.step = step;
  record.epoch = 2;
  record.samples = 4096;
  record.seconds = 1.5;
  record.learning_rate_factor = 0.1f;
  MetricValue& metric = record.values.emplace_back();
  metric.set_name("valid/click/auc");
  metric.set_value(auc);
  return record;
}

std::vector<fs::path> EventFiles(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().find("tfevents") != std::string::npos) files.push_back(entry.path());
  }
  return files;
}

}  // namespace

TEST_CASE("CRC-32C gives the published check values") {
  CHECK(Crc32c("") == 0);
  CHECK(Crc32c("123456789") == 0xe3069283u);  // RFC 3720, B.4
  CHECK(Crc32c(std::string(32, '\0')) == 0x8a9136aau);
  CHECK(Crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
}

TEST_CASE("a record's frame is length, masked CRC, payload, masked CRC") {
  const std::string record = TfRecord("abc");
  REQUIRE(record.size() == 8 + 4 + 3 + 4);
  CHECK(record.substr(0, 8) == std::string("\x03\0\0\0\0\0\0\0", 8));
  CHECK(record.substr(12, 3) == "abc");
  const uint32_t crc = Crc32c("abc");
  const uint32_t masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  uint32_t stored;
  std::memcpy(&stored, record.data() + 15, 4);
  CHECK(stored == masked);
}

TEST_CASE("scalars that are not finite are left out of an event, and null in a line") {
  const std::string with = ScalarEvent(1, 7, Record(7, .5).values);
  const std::string without = ScalarEvent(1, 7, Record(7, NAN).values);
  CHECK(with.find("valid/click/auc") != std::string::npos);
  CHECK(without.find("valid/click/auc") == std::string::npos);
  CHECK(MetricsLine(1.25, Record(7, NAN)) ==
        R"({"kind": "epoch", "step": 7, "epoch": 2, "samples": 4096, "seconds": 1.5, "wall_time": 1.250, )"
        R"("learning_rate_factor": 0.1, "metrics": {"valid/click/auc": null}})");
}

TEST_CASE("a log that opens again goes on behind the last whole line") {
  Folder folder;
  {
    auto log = MetricsLog::Open(folder.path, 100);
    REQUIRE(log.ok());
    REQUIRE((*log)->Write(101, Record(1, .5)).ok());
    REQUIRE((*log)->Write(102, Record(2, .75)).ok());
  }
  const std::string two = ReadAll(folder.path / "metrics.jsonl");
  CHECK(two == MetricsLine(101, Record(1, .5)) + "\n" + MetricsLine(102, Record(2, .75)) + "\n");
  std::ofstream(folder.path / "metrics.jsonl", std::ios::app) << "{\"kind\": \"ep" << std::string(9000, 'x');
  {
    auto log = MetricsLog::Open(folder.path, 200);
    REQUIRE(log.ok());
    REQUIRE((*log)->Write(201, Record(3, 1)).ok());
  }
  CHECK(ReadAll(folder.path / "metrics.jsonl") == two + MetricsLine(201, Record(3, 1)) + "\n");
  const auto events = EventFiles(folder.path);
  REQUIRE(events.size() == 2);
  for (const fs::path& file : events) {
    const std::string bytes = ReadAll(file);
    const double start = file.string().find(".100.") != std::string::npos ? 100 : 200;
    CHECK(bytes.substr(0, EventFileHeader(start).size()) == EventFileHeader(start));
    CHECK(bytes.find("learning_rate_factor") != std::string::npos);
  }
}

TEST_CASE("a folder that cannot be made, or a file that cannot be written, is named") {
  Folder folder;
  fs::create_directories(folder.path);
  std::ofstream(folder.path / "file") << "x";
  const auto log = MetricsLog::Open((folder.path / "file" / "sub").string(), 1);
  REQUIRE_FALSE(log.ok());
  CHECK_THAT(std::string(log.status().message()), Catch::Contains("file/sub"));
  fs::create_directories(folder.path / "taken" / "metrics.jsonl");
  const auto taken = MetricsLog::Open((folder.path / "taken").string(), 1);
  REQUIRE_FALSE(taken.ok());
  CHECK_THAT(std::string(taken.status().message()), Catch::Contains("metrics.jsonl"));
}

TEST_CASE("a record for which there is no room leaves no part of it, and the next one stands whole") {
  Folder folder;
  auto log = MetricsLog::Open(folder.path.string(), 1);
  REQUIRE(log.ok());
  REQUIRE((*log)->Write(2, Record(1, .5)).ok());
  const std::string before = ReadAll(folder.path / "metrics.jsonl");
  rlimit old;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
  const auto ignored = signal(SIGXFSZ, SIG_IGN);
  rlimit tight = old;
  tight.rlim_cur = before.size() + 10;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &tight) == 0);
  const absl::Status full = (*log)->Write(3, Record(2, .5));
  setrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, ignored);
  CHECK_THAT(std::string(full.message()), Catch::Contains("metrics.jsonl"));
  CHECK(ReadAll(folder.path / "metrics.jsonl") == before);
  REQUIRE((*log)->Write(4, Record(3, .5)).ok());
  CHECK(ReadAll(folder.path / "metrics.jsonl") == before + MetricsLine(4, Record(3, .5)) + "\n");
}

}  // namespace tidegate
