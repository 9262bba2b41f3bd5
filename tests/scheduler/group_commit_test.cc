#include "scheduler/store/group_commit.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

namespace tidegate {
namespace {

struct Effects {
  bool persist;
  int id;
};

std::vector<int> Take(GroupCommit<Effects>* commit) {
  std::vector<int> ids;
  for (const Effects& effects : commit->Take()) ids.push_back(effects.id);
  return ids;
}

TEST_CASE("what changes nothing leaves at once, but not before what it may speak of is stored") {
  GroupCommit<Effects> commit;
  commit.Add({false, 1});
  CHECK_FALSE(commit.NeedsWrite());
  CHECK(Take(&commit) == std::vector<int>{1});
  commit.Add({true, 2});
  commit.Add({false, 3});
  CHECK(commit.NeedsWrite());
  CHECK_FALSE(commit.AllStored());
  CHECK(Take(&commit).empty());
  commit.BeginWrite();
  CHECK_FALSE(commit.NeedsWrite());
  CHECK(Take(&commit).empty());
  commit.EndWrite(true);
  CHECK(commit.AllStored());
  CHECK(Take(&commit) == std::vector<int>{2, 3});
  CHECK(Take(&commit).empty());
}

TEST_CASE("what comes while a write is under way leaves with it where it changes nothing, else with the next") {
  GroupCommit<Effects> commit;
  commit.Add({true, 1});
  commit.BeginWrite();
  commit.Add({false, 2});
  commit.Add({true, 3});
  commit.Add({false, 4});
  commit.Add({true, 5});
  CHECK_FALSE(commit.NeedsWrite());  // one at a time
  commit.EndWrite(true);
  CHECK(Take(&commit) == std::vector<int>{1, 2});
  CHECK(commit.NeedsWrite());
  commit.BeginWrite();
  commit.EndWrite(true);
  CHECK(Take(&commit) == std::vector<int>{3, 4, 5});
  CHECK(commit.AllStored());
}

TEST_CASE("after a failed write all waits for the next") {
  GroupCommit<Effects> commit;
  commit.Add({true, 1});
  commit.BeginWrite();
  commit.Add({false, 2});
  commit.EndWrite(false);
  CHECK(commit.NeedsWrite());
  CHECK(Take(&commit).empty());
  commit.BeginWrite();
  commit.EndWrite(true);
  CHECK(Take(&commit) == std::vector<int>{1, 2});
}

TEST_CASE("what is dropped never leaves, and the change that was made is written all the same") {
  GroupCommit<Effects> commit;
  commit.Add({true, 1});
  commit.BeginWrite();
  commit.Add({true, 2});
  commit.Drop();
  commit.Add({true, 3});
  commit.EndWrite(true);
  CHECK(Take(&commit).empty());
  CHECK(commit.NeedsWrite());
  commit.BeginWrite();
  commit.EndWrite(true);
  CHECK(Take(&commit) == std::vector<int>{3});
}

}  // namespace
}  // namespace tidegate
