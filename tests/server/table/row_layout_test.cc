#include "server/table/row_layout.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/server/table/table_testing.h"

namespace tidegate {
namespace {

std::string ErrorOf(const std::string& text) {
  const auto layout = RowLayout::Create(ParseTable("name: 'emb' " + text));
  return layout.ok() ? "" : std::string(layout.status().message());
}

}  // namespace

TEST_CASE("parts lie one after the other, slots behind all values") {
  const RowLayout layout = LayoutOf(R"(name: 'emb' id: 3
      parts { name: 'w' dim: 1 optimizer { ftrl {} } }
      parts { name: 'h' dim: 3 dtype: BFLOAT16 optimizer { sgd {} } }
      parts { name: 'v' dim: 16 optimizer { adam {} } })");
  CHECK(layout.width() == 20);
  CHECK(layout.WireRowBytes(FLOAT32) == 80);
  CHECK(layout.WireRowBytes(BFLOAT16) == 40);
  CHECK(layout.parts()[0].value_offset == 0);
  CHECK(layout.parts()[1].value_offset == 4);
  CHECK(layout.parts()[2].value_offset == 12);
  CHECK(layout.parts()[2].first_element == 4);
  CHECK(layout.parts()[0].slot_offset == 76);
  CHECK(layout.parts()[2].slot_offset == 84);
  CHECK(layout.row_bytes() == 228);
  CHECK(layout.stride() == 224);
  CHECK_FALSE(layout.plain_float32());
}

TEST_CASE("initial values are a function of seed, key and element, and have their distribution") {
  const RowLayout layout = LayoutOf("name: 'e' seed: 1 parts { name: 'n' dim: 50 init { normal: 0.5 } optimizer { sgd {} } }"
                                    " parts { name: 'u' dim: 50 init { uniform: 2 } optimizer { sgd {} } }"
                                    " parts { name: 'c' dim: 1 init { constant: -3 } optimizer { sgd {} } }");
  const RowLayout other = LayoutOf("name: 'e' seed: 2 parts { name: 'n' dim: 50 init { normal: 0.5 } optimizer { sgd {} } }");
  double sum = 0, squares = 0, uniform_most = 0;
  for (Key key = 0; key < 1000; ++key) {
    std::vector<float> a(101), b(101), c(50);
    layout.InitialValues(key, a.data());
    layout.InitialValues(key, b.data());
    other.InitialValues(key, c.data());
    REQUIRE(a == b);
    CHECK(a[0] != c[0]);
    CHECK(a[100] == -3);
    for (int i = 0; i < 50; ++i) {
      sum += a[i];
      squares += a[i] * a[i];
      uniform_most = std::max<double>(uniform_most, std::fabs(a[50 + i]));
    }
  }
  CHECK(std::fabs(sum / 50000) < 0.01);
  CHECK(std::sqrt(squares / 50000) == Approx(0.5).epsilon(0.02));
  CHECK(uniform_most <= 2);
  CHECK(uniform_most > 1.99);
}

TEST_CASE("a dense table takes exactly its blocks") {
  const RowLayout layout = LayoutOf("name: 'd' kind: DENSE shape: 10 shape: 10 parts { name: 'w' dim: 64 optimizer { sgd {} } }");
  CHECK(layout.dense_blocks() == 2);
  const std::vector<Key> good = {1, 0}, bad = {0, 2};
  CHECK(layout.CheckKeys(Packed(good)).ok());
  const absl::Status status = layout.CheckKeys(Packed(bad));
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(status.message()), Catch::Contains("\"d\" has 2 blocks; key 2"));
}

TEST_CASE("a table's spec is refused with its name and field") {
  const std::string part = "parts { name: 'v' dim: 4 optimizer { sgd {} } } ";
  CHECK(ErrorOf(part).empty());
  CHECK_THAT(ErrorOf(""), Catch::Contains("table \"emb\": no parts"));
  CHECK_THAT(ErrorOf(part + part), Catch::Contains("two parts are named \"v\""));
  CHECK_THAT(ErrorOf("parts { name: 'v' dim: 4 }"), Catch::Contains("part \"v\" has no optimizer"));
  CHECK_THAT(ErrorOf("parts { name: 'v' dim: 4294967295 optimizer { sgd {} } }"), Catch::Contains("16 MiB"));
  CHECK_THAT(ErrorOf("parts { name: 'v' dim: 3000000 optimizer { adam {} } }"), Catch::Contains("16 MiB"));
  CHECK_THAT(ErrorOf("parts { name: 'v' dim: 4 init { normal: -1 } optimizer { sgd {} } }"), Catch::Contains("init"));
  CHECK_THAT(ErrorOf("parts { name: 'v' dim: 4 init { constant: nan } optimizer { sgd {} } }"), Catch::Contains("init"));
  CHECK_THAT(ErrorOf("kind: DENSE " + part), Catch::Contains("shape"));
  CHECK_THAT(ErrorOf("kind: DENSE shape: 4 shape: 0 " + part), Catch::Contains("shape"));
  CHECK_THAT(ErrorOf("kind: DENSE shape: 4294967296 shape: 4294967296 " + part), Catch::Contains("2^63"));
  CHECK_THAT(ErrorOf("kind: DENSE shape: 4 admission { after: 2 } " + part), Catch::Contains("sparse"));
  CHECK_THAT(ErrorOf("admission { probability: 0 } " + part), Catch::Contains("admission.probability"));
  CHECK_THAT(ErrorOf("admission { probability: nan } " + part), Catch::Contains("admission.probability"));
  CHECK_THAT(ErrorOf("eviction { min_touches_per_clock: -1 } " + part), Catch::Contains("min_touches_per_clock"));
}

}  // namespace tidegate
