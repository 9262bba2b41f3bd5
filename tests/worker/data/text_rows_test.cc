#include "worker/data/text_rows.h"

#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "tests/worker/data/test_files.h"

namespace tidegate {
namespace {

struct Seen {
  std::string text;
  uint64_t position;
  uint64_t line;
  bool too_long;
};

std::vector<Seen> ReadRows(std::vector<TextRows::Piece> pieces) {
  TextRows rows(std::move(pieces));
  std::vector<Seen> out;
  Row row;
  for (;;) {
    absl::StatusOr<bool> more = rows.Next(&row);
    INFO(more.status());
    REQUIRE(more.ok());
    if (!*more) return out;
    out.push_back({std::string(row.text()), row.position, row.line, row.too_long});
  }
}
std::vector<Seen> ReadRows(const std::string& file) {
  return ReadRows({{0, file, 0, LineReader::kToEnd}});
}

}  // namespace

TEST_CASE("lines end in LF, CRLF or with the file, blank ones are passed over") {
  const auto rows = ReadRows(WriteFile("l.txt", "a\n\nbb\r\n\r\nccc"));
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].text == "a");
  CHECK(rows[1].text == "bb");
  CHECK(rows[1].position == 3);
  CHECK(rows[1].line == 3);
  CHECK(rows[2].text == "ccc");
  CHECK(rows[2].line == 5);
  CHECK(ReadRows(WriteFile("e.txt", "")).empty());
  CHECK(ReadRows(WriteFile("bom.txt",
                           "\xef\xbb\xbf"
                           "1 2:3\n"))[0]
            .text == "1 2:3");
}

TEST_CASE("byte ranges that cover a file give every line once, wherever they are cut") {
  const std::string text = "one\ntwo\r\n\nthree\nx\n\nlast line";
  const std::string file = WriteFile("r.txt", text);
  const auto whole = ReadRows(file);
  for (uint64_t a = 0; a <= text.size(); ++a) {
    for (uint64_t b = a; b <= text.size(); ++b) {
      std::vector<Seen> parts;
      for (auto [begin, end] : {std::pair<uint64_t, uint64_t>{0, a}, {a, b}, {b, text.size()}}) {
        for (Seen& s : ReadRows({{0, file, begin, end}})) parts.push_back(s);
      }
      REQUIRE(parts.size() == whole.size());
      for (size_t i = 0; i < parts.size(); ++i) {
        CHECK(parts[i].text == whole[i].text);
        CHECK(parts[i].position == whole[i].position);
      }
    }
  }
}

TEST_CASE("ranges of a large file give every line once across read chunks") {
  std::string text;
  Random random(5);
  std::vector<std::string> lines;
  for (int i = 0; i < 20000; ++i) {
    lines.push_back(absl::StrCat(i, std::string(random.Below(120), 'x')));
    text += lines.back() + (random.Below(3) == 0 ? "\r\n" : "\n");
  }
  const std::string file = WriteFile("big.txt", text);
  std::vector<uint64_t> cuts = {0};
  while (cuts.back() < text.size()) {
    cuts.push_back(std::min<uint64_t>(text.size(), cuts.back() + 1 + random.Below(70000)));
  }
  std::vector<std::string> got;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    for (const Seen& s : ReadRows({{0, file, cuts[i], cuts[i + 1]}})) got.push_back(s.text);
  }
  CHECK(got == lines);
}

TEST_CASE("a line beyond 1 MiB is marked and does not take its neighbours along") {
  const std::string longest(kMaxLineBytes, 'a');
  const std::string text = "first\n" + longest + "\r\n" + longest + "b\n" +
                           std::string(3 << 20, 'c') + "\nlast\n" + longest + "dd";
  const auto rows = ReadRows(WriteFile("long.txt", text));
  REQUIRE(rows.size() == 6);
  CHECK(rows[0].text == "first");
  CHECK(rows[1].text == longest);
  CHECK_FALSE(rows[1].too_long);
  CHECK(rows[2].too_long);
  CHECK(rows[3].too_long);
  CHECK(rows[3].text.empty());
  CHECK(rows[4].text == "last");
  CHECK(rows[4].line == 5);
  CHECK(rows[4].position == text.find("last"));
  CHECK(rows[5].too_long);
}

TEST_CASE("compressed files are one split") {
  const std::string file = WriteFile("c.gz", Gzip("a\nb\n"));
  const uint64_t bytes = *FileBytes(file);
  CHECK(ReadRows({{0, file, 0, bytes}}).size() == 2);
  TextRows part({{0, file, 4, bytes}});
  Row row;
  CHECK(absl::IsInvalidArgument(part.Next(&row).status()));
  for (const uint64_t planned : {bytes - 1, bytes + 1}) {
    TextRows other({{0, file, 0, planned}});
    CHECK(absl::IsFailedPrecondition(other.Next(&row).status()));
  }
}

TEST_CASE("a split beyond the file's end is another file") {
  TextRows rows({{0, WriteFile("s.txt", "a\nb\n"), 2, 5}});
  Row row;
  const absl::Status s = rows.Next(&row).status();
  CHECK(absl::IsFailedPrecondition(s));
  CHECK(absl::StrContains(s.message(), "s.txt"));
}

TEST_CASE("files follow each other, rows can be skipped across them") {
  const std::vector<TextRows::Piece> pieces = {
      {0, WriteFile("f0", "a\nb\n"), 0, LineReader::kToEnd},
      {1, WriteFile("f1", ""), 0, LineReader::kToEnd},
      {2, WriteFile("f2", "c\n\nd"), 0, LineReader::kToEnd}};
  CHECK(ReadRows(pieces).size() == 4);
  TextRows rows(pieces);
  CHECK(*rows.Skip(3) == 3);
  Row row;
  REQUIRE(*rows.Next(&row));
  CHECK(row.text() == "d");
  CHECK(row.source == 2);
  CHECK(row.line == 3);
  CHECK(*rows.Skip(5) == 0);
}

TEST_CASE("globs are sorted, what matches nothing or holds nothing is an error") {
  WriteFile("part-2.tsv", "x\n");
  WriteFile("part-10.tsv", "x\n");
  WriteFile("part-1.tsv", "");
  const std::string dir = TempDir();
  const auto files = ExpandFiles({dir + "/part-*.tsv"});
  REQUIRE(files.ok());
  CHECK(*files ==
        std::vector<std::string>{dir + "/part-1.tsv", dir + "/part-10.tsv", dir + "/part-2.tsv"});
  const std::string bracket = WriteFile("part[1].tsv", "x\n");
  CHECK(*ExpandFiles({bracket}) == std::vector<std::string>{bracket});
  CHECK(absl::IsNotFound(ExpandFiles({dir + "/none-*.tsv"}).status()));
  CHECK(absl::IsNotFound(ExpandFiles({dir + "/part-1.tsv", dir + "/none"}).status()));
  CHECK(absl::IsInvalidArgument(ExpandFiles({dir + "/part-1.tsv"}).status()));
  CHECK(absl::IsInvalidArgument(ExpandFiles({dir}).status()));
  CHECK(absl::IsInvalidArgument(ExpandFiles({}).status()));
}

TEST_CASE("a file that is not there: the nearest name in its folder, or the folder that is missing") {
  WriteFile("clicks-train.csv", "x\n");
  const std::string dir = TempDir();
  CHECK(MissingFileHint(dir + "/click-train.csv") == " (did you mean \"clicks-train.csv\"?)");
  CHECK_THAT(std::string(ExpandFiles({dir + "/clicks_train.csv"}).status().message()), Catch::EndsWith("(did you mean \"clicks-train.csv\"?)"));
  CHECK(MissingFileHint(dir + "/nothing-like-it-at-all.parquet") == "");
  CHECK(MissingFileHint(dir + "/click-trai?.csv") == "");
  CHECK(MissingFileHint(dir + "/no/such/train.csv") == " (there is no folder " + dir + "/no)");
  CHECK(MissingFileHint("no-such-folder/train.csv") == " (there is no folder no-such-folder)");
}

}  // namespace tidegate
