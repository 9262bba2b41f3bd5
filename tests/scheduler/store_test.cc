#include "scheduler/store/state_store.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <string>

namespace tidegate {
namespace {

std::string NewFolder() {
  const char* base = std::getenv("TEST_TMPDIR");
  std::string pattern = std::string(base != nullptr ? base : "/tmp") + "/store-XXXXXX";
  REQUIRE(mkdtemp(pattern.data()) != nullptr);
  return pattern;
}

SchedulerState SomeState() {
  SchedulerState state;
  state.set_format(1);
  state.set_job("frappe");
  state.set_term(3);
  state.add_events("worker 2 joined");
  return state;
}

TEST_CASE("what was stored is loaded, by another process too; a new folder is empty") {
  const std::string folder = NewFolder() + "/deep/er";
  {
    auto store = DirectoryStore::Open(&RealFileSystem(), folder);
    REQUIRE(store.ok());
    CHECK((*store)->Load()->format() == 0);
    REQUIRE((*store)->Store(SchedulerState()).ok());
    REQUIRE((*store)->Store(SomeState()).ok());
  }
  auto store = DirectoryStore::Open(&RealFileSystem(), folder);
  REQUIRE(store.ok());
  CHECK((*store)->Load()->SerializeAsString() == SomeState().SerializeAsString());
}

TEST_CASE("a folder is held by one scheduler at a time") {
  const std::string folder = NewFolder();
  auto store = DirectoryStore::Open(&RealFileSystem(), folder);
  REQUIRE(store.ok());
  const auto second = DirectoryStore::Open(&RealFileSystem(), folder);
  CHECK(absl::IsFailedPrecondition(second.status()));
  CHECK_THAT(std::string(second.status().message()), Catch::Contains(folder));
}

TEST_CASE("a damaged file is refused by name, at every length and for every flipped byte") {
  const std::string folder = NewFolder();
  const std::string path = folder + "/scheduler.state";
  auto store = DirectoryStore::Open(&RealFileSystem(), folder);
  REQUIRE((*store)->Store(SomeState()).ok());
  const std::string good = *RealFileSystem().Read(path, 1 << 20);
  for (size_t i = 0; i < good.size(); ++i) {
    REQUIRE(RealFileSystem().WriteAtomically(path, good.substr(0, i)).ok());
    CHECK(absl::IsDataLoss((*store)->Load().status()));
    std::string flipped = good;
    flipped[i] = static_cast<char>(flipped[i] ^ 4);
    REQUIRE(RealFileSystem().WriteAtomically(path, flipped).ok());
    const absl::Status status = (*store)->Load().status();
    CHECK_FALSE(status.ok());
    CHECK_THAT(std::string(status.message()), Catch::Contains(path));
  }
}

TEST_CASE("a file of a newer format is refused as such") {
  const std::string folder = NewFolder();
  auto store = DirectoryStore::Open(&RealFileSystem(), folder);
  REQUIRE(RealFileSystem().WriteAtomically(folder + "/scheduler.state", "TGSTATE2 and other things").ok());
  CHECK(absl::IsFailedPrecondition((*store)->Load().status()));
}

}  // namespace
}  // namespace tidegate
