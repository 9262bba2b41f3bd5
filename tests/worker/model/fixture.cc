#include "tests/worker/model/fixture.h"

#include <cmath>
#include <limits>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "common/job_config/job_config.h"
#include "common/random.h"

namespace tidegate {
namespace {

constexpr char kHead[] = R"(
  data { format: LIBSVM train { files: "/none" } }
  feature { name: "C{1..3}" column: "#{1..3}" table: "emb" }
  feature { name: "M" column: "*" id { multi_valued: true use_values: true } table: "emb" }
  feature { name: "X" column: "#4" numeric {} }
  feature { name: "Y" column: "#5" numeric {} }
)";

absl::StatusOr<JobConfig> Config(const std::string& text) {
  return ParseJobConfig(absl::StrCat(kHead, text), "fixture");
}

}  // namespace

ModelFixture::ModelFixture(const std::string& text, size_t rows, uint64_t seed,
                           const std::function<void(JobConfig*)>& edit) {
  auto parsed = Config(text);
  if (!parsed.ok()) throw std::runtime_error(parsed.status().ToString());
  config = *parsed;
  if (edit) edit(&config);
  auto created = Model::Create(config);
  if (!created.ok()) throw std::runtime_error(created.status().ToString());
  model = *std::move(created);
  MakeBatch(rows, 100, seed);
  FillRows(seed);
}

void ModelFixture::MakeBatch(size_t rows, uint64_t first_id, uint64_t seed) {
  Batch& b = step.batch;
  b.features.resize(4);
  b.numeric.resize(2);
  b.labels.resize(2);
  b.Clear();
  b.rows = rows;
  for (size_t r = 0; r < rows; ++r) {
    const uint64_t id = first_id + r;
    Random random(seed * 1000003 + id);
    for (size_t f = 0; f < 3; ++f) {
      b.features[f].keys.push_back(random.Below(4));  // repeats within and across samples
      b.features[f].offsets.push_back(static_cast<uint32_t>(b.features[f].keys.size()));
    }
    for (uint64_t n = random.Below(4); n > 0; --n) {
      b.features[3].keys.push_back(10 + random.Below(5));
      b.features[3].weights.push_back(static_cast<float>(random.Unit() + 0.5));
    }
    b.features[3].offsets.push_back(static_cast<uint32_t>(b.features[3].keys.size()));
    for (auto& column : b.numeric) column.push_back(static_cast<float>(2 * random.Unit() - 1));
    const bool masked = id % 5 == 4;
    b.labels[0].push_back(masked ? std::numeric_limits<float>::quiet_NaN()
                                 : static_cast<float>(random.Below(2)));
    b.sample_weight.push_back(static_cast<float>(0.5 + random.Unit()));
    b.sample_id.push_back(id);
    b.labels[1].push_back(id % 3 == 0 ? std::numeric_limits<float>::quiet_NaN()
                                      : static_cast<float>(random.Below(2)));
  }
}

void ModelFixture::FillRows(uint64_t seed) {
  model->Gather(&step);
  for (size_t t = 0; t < step.tables.size(); ++t) {
    TableStep& table = step.tables[t];
    const size_t width = model->row_widths()[t];
    table.rows.resize(table.keys.size() * width);
    for (size_t k = 0; k < table.keys.size(); ++k) {
      for (size_t i = 0; i < width; ++i) {
        const uint64_t bits = RandomBits(seed * 77 + t, table.keys[k] * 10007 + i);
        float value = static_cast<float>(1.2 * ToUnit(bits) - 0.6);
        // Moving statistics: variances must be positive.
        if (model->tables()[t].parts(0).optimizer().has_moving_average()) value = std::fabs(value) + 0.5f;
        table.rows[k * width + i] = value;
      }
    }
  }
}

double ModelFixture::Loss() const {
  Step copy = step;
  auto result = model->Train(&copy);
  if (!result.ok()) throw std::runtime_error(result.status().ToString());
  return result->loss_sum;
}

absl::Status CreateStatus(const std::string& text) {
  auto config = Config(text);
  if (!config.ok()) return config.status();
  return Model::Create(*config).status();
}

}  // namespace tidegate
