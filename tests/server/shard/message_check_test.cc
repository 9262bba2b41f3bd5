#include "server/shard/message_check.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

namespace tidegate {
namespace {

std::vector<TableSpec> Specs() {
  std::vector<TableSpec> specs(2);
  for (uint32_t i = 0; i < 2; ++i) {
    specs[i].set_id(i);
    specs[i].set_name(i == 0 ? "emb" : "w0");
    PartSpec* part = specs[i].add_parts();
    part->set_name("v");
    part->set_dim(i == 0 ? 3 : 4);
    part->mutable_optimizer()->mutable_sgd();
  }
  specs[1].set_kind(TableSpec::DENSE);
  specs[1].add_shape(10);  // 3 blocks of 4
  return specs;
}
std::shared_ptr<const TableCatalog> Catalog() {
  const std::vector<TableSpec> specs = Specs();
  return *TableCatalog::FromSpecs(specs);
}

struct Push {
  std::vector<Key> keys = {5, 6};
  std::vector<float> values = std::vector<float>(6, 1);
  std::vector<uint32_t> counts;
  wire::PushRequest request;
  PushFault fault = PushFault::kNone;

  Push() {
    request.stamp.incarnation = 1;
    request.sequence = 1;
    request.weight = 1;
  }
  absl::Status Check(TableId table = 0) {
    wire::TableGradients gradients;
    gradients.table = table;
    gradients.keys = PackedSpan<Key>(keys.data(), keys.size());
    gradients.values = std::as_bytes(std::span(values));
    gradients.counts = PackedSpan<uint32_t>(counts.data(), counts.size());
    request.tables.clear();
    request.tables.push_back(gradients);
    return CheckPush(request, *Catalog(), &fault);
  }
};

TEST_CASE("a sound push passes") {
  Push push;
  CHECK(push.Check().ok());
  CHECK(push.fault == PushFault::kNone);
  push.counts = {1, 2};
  CHECK(push.Check().ok());
  push.request.value_type = wire::ValueType::kBfloat16;
  push.values.resize(3);
  push.counts.clear();
  CHECK(push.Check().ok());
  push.request.parts = 0;  // not set
  CHECK(push.Check().ok());
}

TEST_CASE("lengths that do not fit are named") {
  Push push;
  push.values.resize(5);
  const absl::Status status = push.Check();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(push.fault == PushFault::kShape);
  CHECK(std::string(status.message()) ==
        "push to table `emb` has 20 bytes of values, 2 keys of 3 elements need 24");
  Push counted;
  counted.counts = {1};
  CHECK(counted.Check().code() == absl::StatusCode::kInvalidArgument);
  CHECK(counted.fault == PushFault::kShape);
}

TEST_CASE("unknown tables and blocks beyond a dense table are refused") {
  Push push;
  CHECK(push.Check(2).code() == absl::StatusCode::kNotFound);
  CHECK(push.fault == PushFault::kUnknownTable);
  push.keys = {0, 2};
  push.values.assign(8, 1);
  CHECK(push.Check(1).ok());
  push.keys = {0, 3};
  CHECK(push.Check(1).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a value that is not finite is found wherever it stands") {
  for (size_t i = 0; i < 6; ++i) {
    for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                      std::numeric_limits<float>::quiet_NaN()}) {
      Push push;
      push.values[i] = bad;
      const absl::Status status = push.Check();
      CHECK(status.code() == absl::StatusCode::kInvalidArgument);
      CHECK(push.fault == PushFault::kNonFinite);
      const std::string place = "key " + std::to_string(5 + i / 3) + ", element " +
                                std::to_string(i % 3);
      CHECK(std::string(status.message()).find(place) != std::string::npos);
    }
  }
}

TEST_CASE("a gradient that would overflow once divided by the weight is refused, and named") {
  const auto code = [](float gradient, double weight) {
    Push push;
    push.values[4] = gradient;
    push.request.weight = weight;
    const absl::Status status = push.Check();
    CHECK(push.fault == (status.ok() ? PushFault::kNone : PushFault::kNonFinite));
    return status.code();
  };
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  CHECK(code(kMeanGradientMax, 1) == absl::StatusCode::kOk);
  CHECK(code(-kMeanGradientMax, 1e20) == absl::StatusCode::kOk);
  CHECK(code(std::nextafter(kMeanGradientMax, 2 * kMeanGradientMax), 1) == kBad);
  CHECK(code(std::numeric_limits<float>::max(), 1e20) == kBad);
  CHECK(code(1, 1e-14) == absl::StatusCode::kOk);
  CHECK(code(1, 1e-20) == kBad);
  CHECK(code(-3e38f, 0) == kBad);
  Push half;
  half.request.value_type = wire::ValueType::kBfloat16;
  half.values.resize(3);
  const uint16_t large = 0x7f7f;
  std::memcpy(reinterpret_cast<char*>(half.values.data()) + 8, &large, 2);
  const absl::Status status = half.Check();
  CHECK(status.code() == kBad);
  CHECK(std::string(status.message()).find("key 6, element 1") != std::string::npos);
  CHECK(std::string(status.message()).find("diverged") != std::string::npos);
}

TEST_CASE("a header out of range is refused") {
  auto code = [](auto change) {
    Push push;
    change(&push.request);
    const absl::Status status = push.Check();
    CHECK(push.fault == (status.ok() ? PushFault::kNone : PushFault::kHeader));
    return status.code();
  };
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  CHECK(code([](auto* r) { r->weight = -1; }) == kBad);
  CHECK(code([](auto* r) { r->weight = std::numeric_limits<double>::quiet_NaN(); }) == kBad);
  CHECK(code([](auto* r) { r->weight = 1e-300; }) == kBad);
  CHECK(code([](auto* r) { r->weight = 0; }) == absl::StatusCode::kOk);
  CHECK(code([](auto* r) { r->sequence = 0; }) == kBad);
  CHECK(code([](auto* r) { r->clock = -1; }) == kBad);
  CHECK(code([](auto* r) { r->clock = std::numeric_limits<Clock>::max(); }) == kBad);
  CHECK(code([](auto* r) { r->part = 1; }) == kBad);
  CHECK(code([](auto* r) { r->parts = kMaxPartsOfPush + 1; }) == kBad);
  CHECK(code([](auto* r) { r->stamp.incarnation = r->sequence = 0; }) == absl::StatusCode::kOk);
}

TEST_CASE("a pull may not ask for more than the limit, nor for what is not there") {
  const std::vector<Key> keys = {0, 1, 2, 3};
  wire::PullRequest request;
  request.tables.push_back({0, PackedSpan<Key>(keys.data(), 4)});
  const auto catalog = Catalog();
  CHECK(CheckPull(request, *catalog, 48).ok());
  CHECK(CheckPull(request, *catalog, 47).code() == absl::StatusCode::kResourceExhausted);
  request.value_type = wire::ValueType::kBfloat16;
  CHECK(CheckPull(request, *catalog, 24).ok());
  request.tables[0].table = 1;
  CHECK(CheckPull(request, *catalog, 1000).code() == absl::StatusCode::kInvalidArgument);
  request.tables[0].table = 2;
  CHECK(CheckPull(request, *catalog, 1000).code() == absl::StatusCode::kNotFound);
  request.tables.clear();
  request.clock = std::numeric_limits<Clock>::min();
  CHECK(CheckPull(request, *catalog, 1000).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a catalog wants tables in their places, and knows equal ones") {
  std::vector<TableSpec> specs = Specs();
  CHECK(Catalog()->SameSpecs(*Catalog()));
  specs[0].set_seed(3);
  CHECK_FALSE((*TableCatalog::FromSpecs(specs))->SameSpecs(*Catalog()));
  std::swap(specs[0], specs[1]);
  CHECK(TableCatalog::FromSpecs(specs).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("records are checked for what could do harm") {
  const auto catalog = Catalog();
  Push push;
  REQUIRE(push.Check().ok());
  wire::PushRecord good;
  good.push = push.request;
  const auto check = [&](auto change) {
    wire::PushRecord record = good;
    change(record);
    return CheckRecord(record, *catalog).code();
  };
  using absl::StatusCode;
  CHECK(check([](auto&) {}) == StatusCode::kOk);
  // A sum of contributions may be more than one message may hold.
  std::vector<float> large(6, 3e15f);
  CHECK(check([&](auto& r) { r.push.tables[0].values = std::as_bytes(std::span(large)); }) == StatusCode::kOk);
  large[4] = std::numeric_limits<float>::infinity();
  CHECK(check([&](auto& r) { r.push.tables[0].values = std::as_bytes(std::span(large)); }) ==
        StatusCode::kInvalidArgument);
  CHECK(check([](auto& r) { r.push.tables[0].table = 2; }) == StatusCode::kNotFound);
  CHECK(check([](auto& r) { r.push.tables[0].values = r.push.tables[0].values.subspan(4); }) ==
        StatusCode::kInvalidArgument);
  CHECK(check([](auto& r) { r.push.weight = -1; }) == StatusCode::kInvalidArgument);
  CHECK(check([](auto& r) { r.push.weight = std::nan(""); }) == StatusCode::kInvalidArgument);
  CHECK(check([](auto& r) { r.lr_scale = std::numeric_limits<float>::infinity(); }) ==
        StatusCode::kInvalidArgument);
  CHECK(check([](auto& r) { r.clock = kClockLimit + 1; }) == StatusCode::kInvalidArgument);
  CHECK(check([](auto& r) { r.push.sequence = 0; }) == StatusCode::kInvalidArgument);
  CHECK(check([](auto& r) { r.push.oldest_unacked = 2; }) == StatusCode::kInvalidArgument);

  CHECK(CheckRecord(wire::SweepRecord{1, 0, {}}, *catalog).ok());
  CHECK(CheckRecord(wire::SweepRecord{2, 0, {}}, *catalog).code() == StatusCode::kNotFound);
  CHECK(CheckRecord(wire::DigestRecord{{1}, {2}}, *catalog).ok());
  CHECK(CheckRecord(wire::DigestRecord{{1, 2}, {2}}, *catalog).code() == StatusCode::kInvalidArgument);
  wire::FillRecord fill;
  fill.table = 9;
  CHECK(CheckRecord(fill, *catalog).ok());
  const std::string rows = "x";
  fill.records = std::as_bytes(std::span(rows));
  CHECK(CheckRecord(fill, *catalog).code() == StatusCode::kNotFound);
}

}  // namespace
}  // namespace tidegate
