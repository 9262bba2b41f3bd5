#include "worker/data/config_columns.h"

#include <catch2/catch.hpp>
#include <string>

#include "absl/strings/str_join.h"
#include "tests/worker/data/decoder_fixture.h"
#include "tests/worker/data/test_files.h"

namespace tidegate {
namespace {

std::string Problems(const std::string& data, const std::string& features, const std::string& task = "label: \"click\"") {
  return absl::StrJoin(ColumnProblems(ConfigOf("data { format: CSV " + data + " } " + features + " model { task { name: \"t\" " + task + " } }")), "\n");
}

TEST_CASE("columns that a CSV lacks are named with the nearest") {
  const std::string file = WriteFile("columns.csv", "click,user,item\n1,2,3\n");
  const std::string train = "train { files: '" + file + "' }";
  const std::string user = "feature { name: \"user\" }";
  CHECK(Problems(train, user) == "");
  CHECK(Problems(train, "feature { name: \"u\" column: \"usr\" }") ==
        "feature \"u\": column: " + file + ":1 has no column \"usr\" (did you mean \"user\"?); it has click, user, item");
  CHECK(Problems(train, user, "label: \"clik\"").find("task \"t\": label: " + file + ":1 has no column \"clik\" (did you mean \"click\"?)") == 0);
  CHECK(Problems(train + " weight: \"w\"", user).find("data.weight: ") == 0);
  CHECK(Problems("valid { files: '" + file + "' } group: \"g\"", user).find("data.group: ") == 0);
  CHECK(Problems(train + " csv { column: [\"user\", \"click\", \"item\"] }", user) ==
        "data.csv.column: " + file + ":1 has click, user, item, not user, click, item");
}

TEST_CASE("many missing columns are one problem") {
  const std::string file = WriteFile("semicolons.csv", "click;a;b;c;d\n");
  const std::string e = Problems("train { files: '" + file + "' }",
      "feature { name: \"a\" } feature { name: \"b\" } feature { name: \"c\" } feature { name: \"d\" }", "label: \"click;a;b;c;d\"");
  CHECK(e == "feature \"a\" and 3 more (to \"d\"): column: " + file + ":1 has none of theirs (\"a\" to \"d\"); it has click;a;b;c;d");
}

TEST_CASE("a first line that names nothing of the job: another delimiter, or no header") {
  const std::string features = "feature { name: \"user\" } feature { name: \"item\" }";
  const auto with = [&](const char* name, const char* text, const char* csv = "") {
    return Problems("train { files: '" + WriteFile(name, text) + "' } " + csv, features);
  };
  const std::string semicolons = with("delimiter.csv", "click;user;item\n1;2;3\n");
  CHECK(semicolons.find("has no column \"user\"") != std::string::npos);
  CHECK(semicolons.find("data.csv: ") != std::string::npos);
  CHECK(semicolons.find("write csv { delimiter: \";\" }") != std::string::npos);
  CHECK(with("tabs.csv", "x,y\tclick\n").find("write csv { delimiter: \"\\t\" }") != std::string::npos);
  CHECK(with("commas.csv", "click,user,item\n", "csv { delimiter: ';' }").find("delimiter: \",\" }") != std::string::npos);
  const std::string bare = with("no_header.csv", "1,u7,i12\n");
  CHECK(bare.find("write csv { header: false column: [...] }") != std::string::npos);
  CHECK(bare.find("delimiter") == std::string::npos);
  CHECK(with("one.csv", "1,user,i12\n").find("data.csv: ") == std::string::npos);
  CHECK(with("written.csv", "1,u7,i12\n", "csv { column: ['click', 'user', 'item'] }").find("write csv { header: false") != std::string::npos);
}

TEST_CASE("a header that cannot be read is a problem of its files") {
  const std::string file = WriteFile("twice.csv", "a,a\n");
  CHECK(Problems("train { files: '" + file + "' }", "").find("data.train.files: " + file + ":1: the header: \"a\" is there twice") == 0);
}

TEST_CASE("files that are not there, or have no header, are no problem of columns") {
  CHECK(Problems("train { files: '/nowhere/x.csv' }", "feature { name: \"u\" }") == "");
  const std::string file = WriteFile("bare.csv", "1,2\n");
  CHECK(Problems("train { files: '" + file + "' } csv { header: false column: [\"click\", \"u\"] }", "feature { name: \"z\" }") == "");
}

}  // namespace
}  // namespace tidegate
