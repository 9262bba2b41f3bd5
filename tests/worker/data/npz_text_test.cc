#include "worker/data/npz_text.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/worker/data/npz_files.h"
#include "tests/worker/data/test_files.h"

namespace tidegate {
namespace {

// What columnar.h's separators look like in a test.
std::string Readable(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\x1f", ","}, {"\x1e", "|"}});
}

absl::StatusOr<std::string> TextOf(const std::string& path, const std::vector<std::string>& columns,
                                   size_t chunk = 1000) {
  auto reader = OpenNpzText(path, columns);
  if (!reader.ok()) return reader.status();
  std::string text, buffer(chunk, '\0');
  for (;;) {
    auto n = (*reader)->Read(buffer.data(), buffer.size());
    if (!n.ok()) return n.status();
    if (*n == 0) return Readable(text);
    text.append(buffer, 0, *n);
  }
}

std::string ErrorOf(const std::string& path, const std::vector<std::string>& columns) {
  const auto text = TextOf(path, columns);
  REQUIRE_FALSE(text.ok());
  return std::string(text.status().message());
}

std::string File(const std::vector<TestEntry>& entries) {
  return WriteFile("test.npz", ZipOf(entries));
}

}  // namespace

TEST_CASE("arrays of every dtype become the shortest decimals and UTF-8") {
  const auto i8 = BytesOf<int8_t>({-1, 2});
  const auto u64 = BytesOf<uint64_t>({~0ull, 0});
  const auto f4 = BytesOf<float>({0.1f, std::numeric_limits<float>::quiet_NaN()});
  const auto f8 = BytesOf<double>({1e300, -2});
  const auto list = BytesOf<int32_t>({1, 2, 3, 4, 5, 6});
  const auto u = BytesOf<uint32_t>({'a', 0, 0, 0x20ac, 0x1f600, 'z'});
  for (const bool deflate : {false, true}) {
    const std::string path =
        File({{"i.npy", NpyOf("|i1", "(2,)", i8), deflate}, {"u.npy", NpyOf("<u8", "(2,)", u64), deflate},
              {"f.npy", NpyOf("<f4", "(2,)", f4), deflate}, {"d.npy", NpyOf("<f8", "(2, 1)", f8), deflate},
              {"l.npy", NpyOf("<i4", "(2, 3)", list), deflate}, {"t.npy", NpyOf("<U3", "(2,)", u), deflate},
              {"s.npy", NpyOf("|S2", "(2,)", std::string("ab\0c", 4)), deflate},
              {"b.npy", NpyOf("|b1", "(2,)", std::string("\1\0", 2)), deflate}});
    for (const size_t chunk : {1, 7, 1000}) {
      CHECK(*TextOf(path, {"i", "u", "f", "d", "l", "t", "s", "b"}, chunk) ==
            "-1,18446744073709551615,0.1,1e+300,1|2|3,a,ab,1\n"
            "2,0,,-2,4|5|6,\xe2\x82\xac\xf0\x9f\x98\x80z,,0\n");
    }
    CHECK(*TextOf(path, {"l", "i"}) == "1|2|3,-1\n4|5|6,2\n");
  }
}

TEST_CASE("arrays that cannot be read are refused by name") {
  const auto two = BytesOf<float>({1, 2});
  const std::pair<std::string, std::string> bad[] = {
      {NpyOf("|O", "(2,)", two), "dtype"},
      {NpyOf(">f4", "(2,)", two), "dtype"},
      {NpyOf("<f2", "(4,)", two), "dtype"},
      {NpyOf("<f4", "()", two), "shape"},
      {NpyOf("<f4", "(2, 0)", two), "shape"},
      {NpyOf("<f4", "(1, 99999999999)", two), "shape"},
      {NpyOf("<f4", "(3,)", two), "has 8 bytes, not 3 rows of 4"},
      {NpyOf("<f4", "(4611686018427387904, 1)", two), "bytes, not"},
      {NpyOf("<f4", "(1, 2)", two, true), "Fortran"},
      {"no array", "no array"},
      {std::string("\x93NUMPY\x09\0\0\0\0\0\0", 13), "numpy's format"},
      {NpyOf("<f4", "(2,)", two).substr(0, 40), "header"}};
  for (const auto& [content, what] : bad) {
    INFO(what);
    CHECK_THAT(ErrorOf(File({{"x.npy", content, false}}), {"x"}), Catch::Contains("x.npy") && Catch::Contains(what));
  }
  const std::string path = File({{"x.npy", NpyOf("<f4", "(2,)", two), false},
                                 {"y.npy", NpyOf("<f4", "(1,)", BytesOf<float>({1})), false},
                                 {"s.npy", NpyOf("|S2", "(1,)", "a\n"), true},
                                 {"w.npy", NpyOf("<U1", "(1,)", BytesOf<uint32_t>({0xd800})), true}});
  CHECK_THAT(ErrorOf(path, {"z"}), Catch::Contains("no array \"z\"; there are x, y, s"));
  CHECK_THAT(ErrorOf(path, {"x", "y"}), Catch::Contains("y.npy has 1 rows, but") && Catch::Contains("2"));
  CHECK_THAT(ErrorOf(path, {"s"}), Catch::Contains("row 1"));
  CHECK_THAT(ErrorOf(path, {"w"}), Catch::Contains("no Unicode"));
}

TEST_CASE("damage anywhere in the file is an error, or changes nothing that is read") {
  const auto values = BytesOf<int32_t>({1, 2, 3, 4, 5, 6, 7, 8});
  for (const bool deflate : {false, true}) {
    const std::string whole = ZipOf({{"x.npy", NpyOf("<i4", "(8,)", values), deflate}});
    const std::string good = *TextOf(WriteFile("whole.npz", whole), {"x"});
    CHECK(good == "1\n2\n3\n4\n5\n6\n7\n8\n");
    for (size_t i = 0; i < whole.size(); ++i) {
      std::string cut = whole.substr(0, i), flipped = whole;
      flipped[i] = static_cast<char>(flipped[i] ^ 0x55);
      CHECK_FALSE(TextOf(WriteFile("cut.npz", cut), {"x"}).ok());
      const auto text = TextOf(WriteFile("flipped.npz", flipped), {"x"});
      if (text.ok()) CHECK(*text == good);
    }
  }
}

}  // namespace tidegate
