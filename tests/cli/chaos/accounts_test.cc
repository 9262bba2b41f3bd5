#include "cli/chaos/accounts.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "common/stable_hash.h"

namespace tidegate::cli {
namespace {

// A server of one shard, in the simplest way.
struct Rows {
  std::map<Key, std::vector<float>> rows;

  void Apply(const Account::Batch& batch) {
    for (size_t i = 0; i < batch.keys.size(); ++i) {
      std::vector<float>& row = rows.try_emplace(batch.keys[i], kAccountDim, 0.0f).first->second;
      for (uint32_t d = 0; d < kAccountDim; ++d) row[d] -= batch.gradients[i * kAccountDim + d];
    }
  }
  std::vector<float> Of(const Account& account) {
    std::vector<float> out;
    for (const Key key : account.keys()) {
      const std::vector<float>& row = rows.try_emplace(key, kAccountDim, 0.0f).first->second;
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  }
};

}  // namespace

TEST_CASE("accounts of workers and shards share no key, and lie in their shard") {
  std::set<Key> all;
  for (int worker : {0, 1}) {
    for (ShardId shard = 0; shard < 4; ++shard) {
      const Account account(worker, shard, 2, 8);
      REQUIRE(account.keys().size() == 8);
      for (const Key key : account.keys()) {
        CHECK(ShardOfHash(PlacementHash(kAccountsTable, key), 2) == shard);
        CHECK(all.insert(key).second);
      }
    }
  }
}

TEST_CASE("books that were kept agree with the rows") {
  Account account(0, 1, 2, 5);
  Random random(3);
  Rows rows;
  for (int i = 0; i < 200; ++i) {
    const Account::Batch batch = account.NextPush(&random);
    REQUIRE_FALSE(batch.keys.empty());
    CHECK(batch.gradients.size() == batch.keys.size() * kAccountDim);
    CHECK(account.outstanding());
    rows.Apply(batch);
    account.Acknowledged();
    CHECK(account.Check(rows.Of(account)) == "");
  }
  CHECK(account.pushes() == 200);
}

TEST_CASE("a lost push shows, and so does a doubled one") {
  Account account(0, 0, 1, 4);
  Random random(5);
  Rows rows;
  rows.Apply(account.NextPush(&random));
  account.Acknowledged();
  const Account::Batch batch = account.NextPush(&random);
  account.Acknowledged();
  CHECK_THAT(account.Check(rows.Of(account)), Catch::Contains("lost"));
  rows.Apply(batch);
  CHECK(account.Check(rows.Of(account)) == "");
  rows.Apply(batch);
  CHECK_THAT(account.Check(rows.Of(account)), Catch::Contains("too much by"));
}

TEST_CASE("a run of the newest pushes can be written off; a hole in one, or something doubled, cannot") {
  Account account(0, 0, 1, 4);
  Random random(7);
  Rows rows;
  std::vector<Account::Batch> batches;
  for (int i = 0; i < 20; ++i) {
    batches.push_back(account.NextPush(&random));
    if (i < 12 || i >= 15) rows.Apply(batches.back());  // lost with their server; others came after it
    account.Acknowledged();
  }
  CHECK_THAT(account.Check(rows.Of(account)), Catch::Contains("lost"));
  CHECK(account.WriteOff(rows.Of(account)) == 3);
  CHECK(account.Check(rows.Of(account)) == "");
  CHECK(account.WriteOff(rows.Of(account)) == 0);
  Rows doubled = rows;
  doubled.Apply(batches[3]);
  CHECK(account.WriteOff(doubled.Of(account)) == 0);
  CHECK_THAT(account.Check(doubled.Of(account)), Catch::Contains("too much by"));
  Rows torn = rows;
  torn.rows[account.keys()[0]][0] += 1;
  CHECK(account.WriteOff(torn.Of(account)) == 0);
  CHECK_THAT(account.Check(torn.Of(account)), Catch::Contains("lost"));
}

TEST_CASE("what was lost long ago is not written off as a tail") {
  Account account(0, 0, 0, 8);
  Random random(1);
  Rows rows;
  for (size_t i = 0; i < Account::kRemembered + 2; ++i) {
    const Account::Batch batch = account.NextPush(&random);
    if (i > 0) rows.Apply(batch);
    account.Acknowledged();
  }
  CHECK(account.WriteOff(rows.Of(account)) == 0);
  CHECK_THAT(account.Check(rows.Of(account)), Catch::Contains("lost"));
}

TEST_CASE("an account of one key pushes it every time") {
  Account account(0, 0, 0, 1);
  Random random(1);
  for (int i = 0; i < 20; ++i) {
    CHECK(account.NextPush(&random).keys.size() == 1);
    account.Acknowledged();
  }
}

}  // namespace tidegate::cli
