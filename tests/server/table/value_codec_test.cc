#include "server/table/value_codec.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "common/random.h"

namespace tidegate {

TEST_CASE("bfloat16 rounds to nearest, ties to even, and keeps the special values") {
  CHECK(FromBfloat16(ToBfloat16(1.0f)) == 1.0f);
  CHECK(ToBfloat16(std::bit_cast<float>(0x3f808000u)) == 0x3f80);  // tie: even below
  CHECK(ToBfloat16(std::bit_cast<float>(0x3f818000u)) == 0x3f82);  // tie: even above
  CHECK(ToBfloat16(std::bit_cast<float>(0x3f808001u)) == 0x3f81);
  CHECK(std::isnan(FromBfloat16(ToBfloat16(std::bit_cast<float>(0x7f800001u)))));
  CHECK(FromBfloat16(ToBfloat16(-std::numeric_limits<float>::infinity())) ==
        -std::numeric_limits<float>::infinity());
}

TEST_CASE("stochastic rounding is right on average and exact where it can be") {
  Random random(1);
  const float value = 1.0f + 0.3f / 128;  // three tenths of the way between two bfloat16
  int up = 0;
  for (int i = 0; i < 20000; ++i) {
    up += FromBfloat16(ToBfloat16Stochastic(value, static_cast<uint16_t>(random()))) > 1.0f;
  }
  CHECK(up > 5600);
  CHECK(up < 6400);
  CHECK(FromBfloat16(ToBfloat16Stochastic(-0.5f, 0xffff)) == -0.5f);
  CHECK(std::isfinite(FromBfloat16(ToBfloat16Stochastic(std::numeric_limits<float>::max(), 0xffff))));
}

TEST_CASE("a value that is not finite is found at any place") {
  for (size_t size : {1, 7, 255, 256, 257, 1000}) {
    for (size_t at : {size_t{0}, size / 2, size - 1}) {
      std::vector<float> values(size, std::numeric_limits<float>::max());
      CHECK(AllFinite(std::as_bytes(std::span(values)), FLOAT32));
      values[at] = -std::numeric_limits<float>::infinity();
      CHECK_FALSE(AllFinite(std::as_bytes(std::span(values)), FLOAT32));
      values[at] = std::numeric_limits<float>::quiet_NaN();
      CHECK_FALSE(AllFinite(std::as_bytes(std::span(values)), FLOAT32));
      std::vector<uint16_t> half(size, 0x7f7f);
      CHECK(AllFinite(std::as_bytes(std::span(half)), BFLOAT16));
      half[at] = 0xff80;
      CHECK_FALSE(AllFinite(std::as_bytes(std::span(half)), BFLOAT16));
    }
  }
  CHECK(AllFinite({}, FLOAT32));
}

TEST_CASE("a value above the limit is found, of either sign and type") {
  for (size_t at : {0, 300, 511}) {
    std::vector<float> values(512, 2.0f);
    CHECK(AllWithin(std::as_bytes(std::span(values)), FLOAT32, 2.0f));
    values[at] = -std::nextafter(2.0f, 3.0f);
    CHECK_FALSE(AllWithin(std::as_bytes(std::span(values)), FLOAT32, 2.0f));
    std::vector<uint16_t> half(512, ToBfloat16(-2.0f));
    CHECK(AllWithin(std::as_bytes(std::span(half)), BFLOAT16, 2.001f));
    half[at] = ToBfloat16(2.0f) + 1;
    CHECK_FALSE(AllWithin(std::as_bytes(std::span(half)), BFLOAT16, 2.001f));
  }
  const float zero = -0.0f;
  CHECK(AllWithin(std::as_bytes(std::span(&zero, 1)), FLOAT32, 0));
}

}  // namespace tidegate
