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

TEST_CASE("an account of one key pushes it every time") {
  Account account(0, 0, 0, 1);
  Random random(1);
  for (int i = 0; i < 20; ++i) {
    CHECK(account.NextPush(&random).keys.size() == 1);
    account.Acknowledged();
  }
}

}  // namespace tidegate::cli
