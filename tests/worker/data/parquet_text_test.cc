#include "worker/data/parquet_text.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

#include "tests/worker/data/test_files.h"

namespace tidegate {
namespace {

// A program in place of tidegate-parquet.
std::string Program(const std::string& name, const std::string& script) {
  const std::string path = WriteFile(name, "#!/bin/sh\n" + script);
  REQUIRE(chmod(path.c_str(), 0755) == 0);
  return path;
}

absl::StatusOr<std::string> TextOf(const std::string& program) {
  auto reader = OpenParquetText(program, "/data/x.parquet", {"a", "b c"});
  if (!reader.ok()) return reader.status();
  std::string text, buffer(7, '\0');
  for (;;) {
    auto n = (*reader)->Read(buffer.data(), buffer.size());
    if (!n.ok()) return n.status();
    if (*n == 0) return text;
    text.append(buffer, 0, *n);
  }
}

}  // namespace

TEST_CASE("the program is given file and columns, and its output is the text") {
  CHECK(*TextOf(Program("echo.sh", "for a in \"$@\"; do echo \"[$a]\"; done\n")) ==
        "[/data/x.parquet]\n[a]\n[b c]\n");
  CHECK(*TextOf(Program("empty.sh", "exit 0\n")) == "");
}

TEST_CASE("a program that fails is an error with its own words, after what it wrote") {
  const auto failed = TextOf(Program("fail.sh", "echo line; echo 'no column \"a\"' >&2; exit 1\n"));
  CHECK(absl::IsInvalidArgument(failed.status()));
  CHECK(failed.status().message() == "/data/x.parquet: no column \"a\"");
  const auto killed = TextOf(Program("killed.sh", "kill -9 $$\n"));
  CHECK_THAT(std::string(killed.status().message()), Catch::Contains("ended by signal 9"));
  const auto silent = TextOf(Program("silent.sh", "exit 3\n"));
  CHECK_THAT(std::string(silent.status().message()), Catch::Contains("exit status 3"));
  CHECK_FALSE(OpenParquetText("/no/such/program", "x", {}).ok());
}

TEST_CASE("a reader that goes away ends the program") {
  auto reader = OpenParquetText(Program("endless.sh", "while true; do echo x; done\n"), "x", {"a"});
  REQUIRE(reader.ok());
  char byte;
  CHECK(*(*reader)->Read(&byte, 1) == 1);
  reader->reset();  // would wait for ever
}

TEST_CASE("a build without the program says what to do") {
  setenv("TIDEGATE_PARQUET", "/no/such/program", 1);
  CHECK(absl::IsFailedPrecondition(ParquetProgram().status()));
  CHECK_THAT(std::string(ParquetProgram().status().message()),
             Catch::Contains("/no/such/program") && Catch::Contains("docs/formats.md"));
  setenv("TIDEGATE_PARQUET", "/bin/sh", 1);
  CHECK(*ParquetProgram() == "/bin/sh");
}

}  // namespace tidegate
