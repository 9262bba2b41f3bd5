#include "cuda/blas.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

namespace tidegate::cuda {
namespace {

std::vector<float> Numbers(size_t n, unsigned seed) {
  std::vector<float> v(n);
  for (float& x : v) {
    seed = seed * 1664525u + 1013904223u;
    x = static_cast<float>(seed >> 8) / (1u << 24) - 0.5f;
  }
  return v;
}

GemmShape Shape(size_t m, size_t n, size_t k, bool ta, bool tb, float beta) {
  GemmShape s;
  s.m = m;
  s.n = n;
  s.k = k;
  s.transpose_a = ta;
  s.transpose_b = tb;
  s.beta = beta;
  return s;
}

TEST_CASE("the reference multiplies row-major matrices, transposed or not, and adds beta * c") {
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};     // [2, 3]
  const std::vector<float> at = {1, 4, 2, 5, 3, 6};    // [3, 2]
  const std::vector<float> b = {7, 8, 9, 10, 11, 12};  // [3, 2]
  const std::vector<float> bt = {7, 9, 11, 8, 10, 12};
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      std::vector<float> c = {1, 1, 1, 1};
      REQUIRE(GemmReference(Shape(2, 2, 3, ta, tb, 0), ta ? at : a, tb ? bt : b, c).ok());
      CHECK(c == std::vector<float>{58, 64, 139, 154});
      REQUIRE(GemmReference(Shape(2, 2, 3, ta, tb, 2), ta ? at : a, tb ? bt : b, c).ok());
      CHECK(c == std::vector<float>{3 * 58, 3 * 64, 3 * 139, 3 * 154});
    }
  }
}

TEST_CASE("sizes that do not fit the shape are refused with both numbers") {
  std::vector<float> four(4);
  std::vector<float> six(6);
  const absl::Status s = GemmReference(Shape(2, 2, 3, false, false, 0), six, four, four);
  CHECK(s.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(s.message()) == "gemm: b holds 4 floats, the shape needs 6");
  CHECK_FALSE(CheckGemm(Shape(0, 2, 3, false, false, 0), 0, 6, 0).ok());
  CHECK_FALSE(CheckGemm(Shape(size_t{1} << 40, 1, 1, false, false, 0), size_t{1} << 40, 1, size_t{1} << 40).ok());
}

TEST_CASE("the device's product agrees with the reference") {
  auto device = Device::Open(0);
  if (!device.ok()) {
    WARN("SKIPPED: " << device.status().ToString());
    CHECK((absl::IsUnavailable(device.status()) || absl::IsUnimplemented(device.status())));
    return;
  }
  auto blas = Blas::Create(device->get());
  REQUIRE(blas.ok());
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      const GemmShape shape = Shape(65, 33, 127, ta, tb, 0.5f);
      const std::vector<float> a = Numbers(shape.m * shape.k, 1);
      const std::vector<float> b = Numbers(shape.k * shape.n, 2);
      std::vector<float> want = Numbers(shape.m * shape.n, 3);
      std::vector<float> got = want;
      auto da = (*device)->Allocate(a.size());
      auto db = (*device)->Allocate(b.size());
      auto dc = (*device)->Allocate(got.size());
      REQUIRE((da.ok() && db.ok() && dc.ok()));
      REQUIRE((*device)->CopyToDevice(a, da->get()).ok());
      REQUIRE((*device)->CopyToDevice(b, db->get()).ok());
      REQUIRE((*device)->CopyToDevice(got, dc->get()).ok());
      REQUIRE((*blas)->Gemm(shape, **da, **db, dc->get()).ok());
      REQUIRE((*device)->CopyToHost(**dc, got).ok());
      REQUIRE(GemmReference(shape, a, b, want).ok());
      for (size_t i = 0; i < want.size(); ++i) REQUIRE(std::abs(got[i] - want[i]) < 1e-4f);
    }
  }
}

TEST_CASE("the device refuses copies of unequal size and impossible allocations") {
  auto device = Device::Open(0);
  if (!device.ok()) {
    WARN("SKIPPED: " << device.status().ToString());
    CHECK_FALSE(device.status().message().empty());
    return;
  }
  auto buffer = (*device)->Allocate(8);
  REQUIRE(buffer.ok());
  CHECK(absl::IsInvalidArgument((*device)->CopyToDevice(Numbers(7, 1), buffer->get())));
  CHECK(absl::IsResourceExhausted((*device)->Allocate(size_t{1} << 60).status()));
}

}  // namespace
}  // namespace tidegate::cuda
