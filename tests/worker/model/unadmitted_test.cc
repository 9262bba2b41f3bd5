#include "worker/model/unadmitted.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <map>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "tests/worker/model/fixture.h"

namespace tidegate {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kWidth = 6;
constexpr size_t kFeatures = 4;

std::string Job(const std::string& table_options) {
  return absl::StrCat("table { name: \"emb\" ", table_options, R"( part { name: "w" dim: 1 ftrl {} } part { name: "v" dim: 5 adam {} } }
    model { preset { kind: DEEPFM wide: "emb.w" deep: "emb.v" units: [8] numeric: ["X", "Y"] } })");
}
std::string OovJob() { return Job("admit_after: 3 unadmitted: FEATURE_OOV"); }

size_t PlaceOf(const TableStep& table, Key key) {
  return static_cast<size_t>(std::find(table.keys.begin(), table.keys.end(), key) - table.keys.begin());
}
bool Has(const TableStep& table, Key key) { return PlaceOf(table, key) < table.keys.size(); }

// A server's answer for keys without a row.
void Mark(const std::vector<Key>& keys, Step* step) {
  TableStep& table = step->tables[0];
  for (const Key key : keys) {
    REQUIRE(Has(table, key));
    std::fill_n(table.rows.begin() + static_cast<long>(PlaceOf(table, key) * kWidth), kWidth, kNaN);
  }
}

std::vector<float> GradientOf(const TableStep& table, Key key) {
  const auto begin = table.gradients.begin() + static_cast<long>(PlaceOf(table, key) * kWidth);
  return {begin, begin + kWidth};
}
uint32_t CountOf(const TableStep& table, Key key) { return table.counts.at(PlaceOf(table, key)); }

std::vector<Key> OovKeys(const Model& model) {
  std::vector<Key> keys;
  for (size_t f = 0; f < kFeatures; ++f) keys.push_back(model.OovKeyOfFeature(f).value());
  return keys;
}

// The same step by hand: the batch itself has the out-of-vocabulary keys.
void Rewrite(const std::vector<Key>& marked, const std::vector<Key>& oov, const Step& from, ModelFixture* to) {
  for (size_t f = 0; f < kFeatures; ++f) {
    for (Key& key : to->step.batch.features[f].keys) {
      if (std::find(marked.begin(), marked.end(), key) != marked.end()) key = oov[f];
    }
  }
  to->model->Gather(&to->step);
  for (size_t t = 0; t < to->step.tables.size(); ++t) {
    TableStep& table = to->step.tables[t];
    if (t > 0) {
      table.rows = from.tables[t].rows;
      continue;
    }
    table.rows.clear();
    for (const Key key : table.keys) {
      const auto row = from.tables[0].rows.begin() + static_cast<long>(PlaceOf(from.tables[0], key) * kWidth);
      table.rows.insert(table.rows.end(), row, row + kWidth);
    }
  }
}

}  // namespace

TEST_CASE("features of a table with FEATURE_OOV have salted keys that the batch holds beside its own") {
  ModelFixture f(OovJob(), 20);
  const std::vector<Key> oov = OovKeys(*f.model);
  CHECK(oov[1] == OutOfVocabularyKey(SaltOf("C2")));
  for (size_t i = 0; i < kFeatures; ++i) {
    CHECK(f.step.tables[0].keys.at(f.step.features[i].oov_position) == oov[i]);
    CHECK(CountOf(f.step.tables[0], oov[i]) == 0);
  }
  FeatureColumn& many = f.step.batch.features[3];
  many.keys.clear();
  many.weights.clear();
  std::fill(many.offsets.begin(), many.offsets.end(), 0);
  f.model->Gather(&f.step);
  CHECK_FALSE(Has(f.step.tables[0], oov[3]));
  CHECK(Has(f.step.tables[0], oov[2]));
}

TEST_CASE("there are none where no key waits for admission, or another answer is asked for") {
  for (const char* options : {"", "unadmitted: FEATURE_OOV", "admit_after: 1 unadmitted: FEATURE_OOV", "admit_after: 3 unadmitted: ZERO",
                              "admit_probability: 1 unadmitted: FEATURE_OOV", "admit_after: 3"}) {
    ModelFixture f(Job(options));
    INFO(options);
    CHECK_FALSE(f.model->OovKeyOfFeature(0).has_value());
    for (const Key key : f.step.tables[0].keys) CHECK(key < 20);
  }
  CHECK(ModelFixture(Job("admit_probability: 0.5 unadmitted: FEATURE_OOV")).model->OovKeyOfFeature(0).has_value());
}

TEST_CASE("marked keys read and train their feature's row, to the bit as if the data had its key") {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    ModelFixture oov_job(OovJob(), 60, seed), by_hand(Job(""), 60, seed);
    Step& step = oov_job.step;
    const std::vector<Key> oov = OovKeys(*oov_job.model);
    // Key 2 of C1..C3, 10 and 11 of M.
    const std::vector<Key> marked = {2, 10, 11};
    Mark(marked, &step);
    Rewrite(marked, oov, step, &by_hand);
    const TableStep before = step.tables[0];
    auto evaluated = oov_job.model->Evaluate(&step);
    auto trained = oov_job.model->Train(&step);  // on positions that are there already
    auto expected = by_hand.model->Train(&by_hand.step);
    REQUIRE((evaluated.ok() && trained.ok() && expected.ok()));
    CHECK(trained->loss_sum == expected->loss_sum);
    CHECK(evaluated->loss_sum == expected->loss_sum);
    CHECK(trained->probabilities == expected->probabilities);
    for (size_t t = 1; t < step.tables.size(); ++t) CHECK(step.tables[t].gradients == by_hand.step.tables[t].gradients);
    const TableStep& table = step.tables[0];
    const TableStep& reference = by_hand.step.tables[0];
    for (const Key key : reference.keys) {
      CHECK(GradientOf(table, key) == GradientOf(reference, key));
      CHECK(CountOf(table, key) == CountOf(reference, key));
    }
    for (const Key key : marked) {
      CHECK(GradientOf(table, key) == std::vector<float>(kWidth, 0.0f));
      CHECK(CountOf(table, key) == CountOf(before, key));
    }
    CHECK(table.keys.size() == reference.keys.size() + marked.size());
    CHECK(table.gradients.size() == table.keys.size() * kWidth);
    CHECK(table.counts.size() == table.keys.size());
  }
}

TEST_CASE("an out-of-vocabulary key that no sample reads is not pushed; the others stay in order") {
  ModelFixture f(OovJob(), 30);
  const std::vector<Key> oov = OovKeys(*f.model);
  std::vector<Key> kept = f.step.tables[0].keys;
  Mark({10}, &f.step);  // M's alone
  REQUIRE(f.model->Train(&f.step).ok());
  kept.erase(std::remove_if(kept.begin(), kept.end(), [&](Key k) { return k == oov[0] || k == oov[1] || k == oov[2]; }), kept.end());
  CHECK(f.step.tables[0].keys == kept);
  f.FillRows(1);
  REQUIRE(f.model->Train(&f.step).ok());
  for (const Key key : oov) CHECK_FALSE(Has(f.step.tables[0], key));
}

TEST_CASE("an out-of-vocabulary row that is not admitted reads zeros, and is trained and counted") {
  ModelFixture marked(OovJob(), 40), zero(OovJob(), 40);
  const std::vector<Key> oov = OovKeys(*marked.model);
  Mark({1, oov[0], oov[1], oov[2], oov[3]}, &marked.step);
  Mark({1}, &zero.step);
  for (const Key key : oov) {
    std::fill_n(zero.step.tables[0].rows.begin() + static_cast<long>(PlaceOf(zero.step.tables[0], key) * kWidth), kWidth, 0.0f);
  }
  auto a = marked.model->Train(&marked.step);
  auto b = zero.model->Train(&zero.step);
  REQUIRE((a.ok() && b.ok()));
  CHECK(std::isfinite(a->loss_sum));
  CHECK(a->loss_sum == b->loss_sum);
  CHECK(marked.step.tables[0].gradients == zero.step.tables[0].gradients);
  CHECK(marked.step.tables[0].counts == zero.step.tables[0].counts);
  CHECK(CountOf(marked.step.tables[0], oov[0]) > 0);
  CHECK(GradientOf(marked.step.tables[0], oov[0])[0] != 0);
}

TEST_CASE("a sample counts once, by several marked values and by features of one salt") {
  ModelFixture f(OovJob(), 2, 1, [](JobConfig* config) {
    for (FeatureConfig& feature : *config->mutable_feature()) {
      if (feature.has_table()) feature.set_salt("shared");
    }
  });
  Batch& batch = f.step.batch;
  for (int c = 0; c < 3; ++c) batch.features[c].keys = {1, 2};
  batch.features[3] = {{0, 3, 3}, {5, 5, 6}, {1, 1, 1}};
  f.FillRows(1);
  const Key oov = *f.model->OovKeyOfFeature(0);
  CHECK(OovKeys(*f.model) == std::vector<Key>(kFeatures, oov));
  Mark({1, 5, 6}, &f.step);
  REQUIRE(f.model->Train(&f.step).ok());
  CHECK(CountOf(f.step.tables[0], oov) == 1);
  CHECK(CountOf(f.step.tables[0], 2) == 1);
}

TEST_CASE("with hash_buckets a value may have the out-of-vocabulary key: its samples count too") {
  ModelFixture f(OovJob(), 4, 1, [](JobConfig* config) { config->mutable_feature(0)->mutable_id()->set_hash_buckets(4); });
  const Key oov = *f.model->OovKeyOfFeature(0);
  REQUIRE(oov < 4);
  REQUIRE(oov == OutOfVocabularyKey(SaltOf("C1")) % 4);
  Batch& batch = f.step.batch;
  const Key rare = (oov + 1) % 4, other = (oov + 2) % 4;
  batch.features[0].keys = {oov, rare, other, other};
  for (size_t c : {1, 2}) batch.features[c].keys.assign(4, other);
  f.FillRows(1);
  CHECK(CountOf(f.step.tables[0], oov) == 1);
  for (const bool unadmitted : {false, true}) {
    f.FillRows(1);
    Mark(unadmitted ? std::vector<Key>{rare, oov} : std::vector<Key>{rare}, &f.step);
    REQUIRE(f.model->Train(&f.step).ok());
    CHECK(CountOf(f.step.tables[0], oov) == 2);
    CHECK(CountOf(f.step.tables[0], rare) == 1);
  }
}

TEST_CASE("a row that only diverged in part is no mark: its loss shows it") {
  ModelFixture f(OovJob(), 10);
  f.step.tables[0].rows[0] = kNaN;
  auto result = f.model->Train(&f.step);
  REQUIRE(result.ok());
  CHECK(std::isnan(result->loss_sum));
}

TEST_CASE("a step without a place or a count for the out-of-vocabulary key is refused") {
  ModelFixture f(OovJob(), 10);
  Step bad = f.step;
  bad.features[2].oov_position = static_cast<uint32_t>(bad.tables[0].keys.size());
  CHECK(f.model->Train(&bad).status().code() == absl::StatusCode::kInvalidArgument);
  bad = f.step;
  bad.tables[0].counts.pop_back();
  CHECK(f.model->Evaluate(&bad).status().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace tidegate
