#pragma once
// Models over made-up batches and rows.

#include <functional>
#include <memory>
#include <string>

#include "worker/model/model.h"

namespace tidegate {

struct ModelFixture {
  JobConfig config;
  std::unique_ptr<Model> model;
  Step step;

  // `text`: tables, dense and model. Features: C1..C3 (table "emb" if there), M (multi-valued with
  // weights, table "emb"), X and Y numeric.
  // `edit` changes the config where its format has no words for it (a second label column).
  explicit ModelFixture(const std::string& text, size_t rows = 7, uint64_t seed = 1,
                        const std::function<void(JobConfig*)>& edit = nullptr);

  // Another batch of `rows` samples with ids from `first_id`; a sample depends on its id only.
  void MakeBatch(size_t rows, uint64_t first_id, uint64_t seed);
  // Gathers and fills every row with values that depend on (seed, table, key, element).
  void FillRows(uint64_t seed);
  double Loss() const;  // trains a copy of the step
};

// The status of Model::Create with the fixture's features and `text`.
absl::Status CreateStatus(const std::string& text);

inline constexpr char kTables[] = R"(
  table { name: "emb" part { name: "w" dim: 1 ftrl {} } part { name: "v" dim: 5 adam {} } }
)";

}  // namespace tidegate
