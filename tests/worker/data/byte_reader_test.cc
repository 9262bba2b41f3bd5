#include "worker/data/byte_reader.h"

#include <catch2/catch.hpp>
#include <string>

#include "absl/strings/match.h"
#include "common/random.h"
#include "common/strings.h"
#include "tests/worker/data/test_files.h"

namespace tidegate {
namespace {

absl::StatusOr<std::string> ReadAll(const std::string& path, size_t piece = 1000) {
  absl::StatusOr<std::unique_ptr<ByteReader>> reader = OpenFile(path, 0);
  if (!reader.ok()) return reader.status();
  std::string out;
  std::string buffer(piece, '\0');
  for (;;) {
    absl::StatusOr<size_t> n = (*reader)->Read(buffer.data(), buffer.size());
    if (!n.ok()) return n.status();
    if (*n == 0) return out;
    out.append(buffer, 0, *n);
  }
}

std::string SomeText(size_t bytes) {
  std::string text;
  Random random(3);
  while (text.size() < bytes)
    text += std::to_string(random.Below(1000)) + (random.Below(9) ? " " : "\n");
  return text;
}

bool Mentions(const absl::Status& s, const std::string& what) {
  return absl::StrContains(s.message(), what);
}

}  // namespace

TEST_CASE("plain, gzip and zstd files read as the same text") {
  const std::string text = SomeText(700000);
  CHECK(*ReadAll(WriteFile("a.txt", text)) == text);
  for (const size_t piece : {1u, 4096u, 1000000u}) {
    const std::string& want = piece == 1 ? text.substr(0, 5000) : text;
    CHECK(*ReadAll(WriteFile("a.gz", Gzip(want)), piece) == want);
    CHECK(*ReadAll(WriteFile("a.zst", Zstd(want)), piece) == want);
  }
}

TEST_CASE("several gzip members or zstd frames are one text") {
  const std::string text = SomeText(300000);
  const std::string head = text.substr(0, 100001);
  const std::string tail = text.substr(100001);
  CHECK(*ReadAll(WriteFile("m.gz", Gzip(head) + Gzip("") + Gzip(tail))) == text);
  CHECK(*ReadAll(WriteFile("m.gz", Gzip(text) + std::string(512, '\0'))) == text);
  CHECK(*ReadAll(WriteFile("m.zst", Zstd(head) + Zstd("") + Zstd(tail))) == text);
}

TEST_CASE("cut off compressed files are data loss that names file and offset") {
  const std::string text = SomeText(300000);
  const std::string gz = Gzip(text);
  const std::string zst = Zstd(text);
  for (const size_t keep : {gz.size() - 1, gz.size() - 9, gz.size() / 2, size_t{5}}) {
    const absl::Status s = ReadAll(WriteFile("t.gz", gz.substr(0, keep))).status();
    CHECK(absl::IsDataLoss(s));
    CHECK(Mentions(s, "t.gz"));
    CHECK(Mentions(s, "byte " + std::to_string(keep)));
  }
  for (const size_t keep : {zst.size() - 1, zst.size() / 2, size_t{5}}) {
    const absl::Status s = ReadAll(WriteFile("t.zst", zst.substr(0, keep))).status();
    CHECK(absl::IsDataLoss(s));
    CHECK(Mentions(s, "byte " + std::to_string(keep)));
  }
  CHECK(absl::IsDataLoss(ReadAll(WriteFile("m.gz", gz + gz.substr(0, 100))).status()));
}

TEST_CASE("damaged compressed files are data loss") {
  std::string gz = Gzip(SomeText(300000));
  gz[gz.size() / 2] = static_cast<char>(gz[gz.size() / 2] ^ 0x10);
  CHECK(absl::IsDataLoss(ReadAll(WriteFile("d.gz", gz)).status()));
  CHECK(absl::IsDataLoss(ReadAll(WriteFile("g.gz", Gzip("x\n") + "garbage")).status()));
  CHECK(absl::IsDataLoss(ReadAll(WriteFile("g.zst", Zstd("x\n") + "garbage")).status()));
}

TEST_CASE("a name that disagrees with the content is refused") {
  CHECK(absl::IsInvalidArgument(ReadAll(WriteFile("n.txt", Gzip("1 2:3\n"))).status()));
  CHECK(absl::IsInvalidArgument(ReadAll(WriteFile("n2.txt", Zstd("1 2:3\n"))).status()));
  CHECK(absl::IsInvalidArgument(ReadAll(WriteFile("n.gz", "1 2:3\n")).status()));
  CHECK_FALSE(ReadAll(WriteFile("n.zst", "1 2:3\n")).ok());
  CHECK(absl::IsInvalidArgument(OpenFile(WriteFile("o.gz", Gzip("1 2:3\n")), 3).status()));
}

TEST_CASE("missing files and folders are named") {
  const absl::Status s = ReadAll(TempDir() + "/not_there").status();
  CHECK(absl::IsNotFound(s));
  CHECK(Mentions(s, "not_there"));
  CHECK(absl::IsInvalidArgument(ReadAll(TempDir()).status()));
}

}  // namespace tidegate
