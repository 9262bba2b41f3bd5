// Every job in configs/ resolves, builds its model and reads back from its own text.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

#include "common/job_config/job_config.h"
#include "server/table/row_layout.h"
#include "worker/data/readers.h"
#include "worker/model/model.h"

namespace tidegate {
namespace {

std::vector<std::string> ConfigFiles() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator("configs")) {
    if (entry.path().extension() == ".textproto") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

TEST_CASE("every config resolves, and its model, readers and tables can be made") {
  setenv("TIDEGATE_DATA", "/data", /*overwrite=*/0);
  const std::vector<std::string> files = ConfigFiles();
  CHECK(files.size() >= 8);
  for (const std::string& file : files) {
    INFO(file);
    auto config = LoadJobConfig(file);
    INFO(config.status().ToString());
    REQUIRE(config.ok());
    auto again = ParseJobConfig(JobConfigText(*config), file);
    REQUIRE(again.ok());
    CHECK(JobConfigFingerprint(*again) == JobConfigFingerprint(*config));
    auto model = Model::Create(*config);
    INFO(model.status().ToString());
    REQUIRE(model.ok());
    for (const TableSpec& spec : (*model)->tables()) {
      auto layout = RowLayout::Create(spec);
      INFO(layout.status().ToString());
      CHECK(layout.ok());
    }
    CHECK(Readers::Create(*config).ok());
  }
}

}  // namespace tidegate
