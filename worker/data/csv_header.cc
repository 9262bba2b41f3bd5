#include "worker/data/csv_header.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/data/decoder_columns.h"
#include "worker/data/fields.h"
#include "worker/data/text_rows.h"

namespace tidegate {
namespace {

constexpr uint32_t kMaxColumns = 1 << 16;

absl::Status Bad(const std::string& file, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ":1: the header: ", what));
}

absl::StatusOr<std::vector<std::string>> Names(const std::string& file, char delimiter,
                                               std::string_view line) {
  CsvSplitter splitter(delimiter, true);
  std::string what;
  if (!splitter.Split(line, kMaxColumns, &what)) return Bad(file, what);
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const std::string_view field : splitter.fields()) {
    names.emplace_back(field);
    if (field.empty()) return Bad(file, absl::StrCat("column ", names.size(), " has no name (a file without a header needs csv { header: false column: [...] } in data)"));
    if (!seen.insert(names.back()).second) {
      return Bad(file, absl::StrCat(Quoted(field), " is there twice (a file without a header needs csv { header: false column: [...] } in data)"));
    }
  }
  return names;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadCsvHeader(const std::string& file, char delimiter) {
  absl::StatusOr<std::vector<std::string>> names = Bad(file, "the file has no line");
  TextRows rows({{0, file, 0, LineReader::kToEnd}},
                [&](const std::string& name, std::string_view line) {
                  names = Names(name, delimiter, line);
                  return absl::OkStatus();
                });
  Row row;
  if (absl::StatusOr<bool> more = rows.Next(&row); !more.ok()) return more.status();
  return names;
}

absl::Status CheckCsvHeader(const DataSchema::Csv& csv, const std::string& file,
                            std::string_view line) {
  const auto names = Names(file, csv.delimiter, line);
  if (!names.ok()) return names.status();
  const std::string hint =
      absl::StrCat("; expected ", absl::StrJoin(csv.names, std::string(1, csv.delimiter)),
                   " (a file without a header needs data.csv { header: false } and its columns)");
  const size_t n = std::min(names->size(), csv.names.size());
  for (size_t i = 0; i < n; ++i) {
    if ((*names)[i] == csv.names[i]) continue;
    return Bad(file, absl::StrCat("column ", i + 1, " is ", Quoted((*names)[i]), ", not \"",
                                  csv.names[i], "\"", hint));
  }
  if (names->size() == csv.names.size()) return absl::OkStatus();
  return Bad(file, absl::StrCat(names->size(), " columns, not ", csv.names.size(), hint));
}

}  // namespace tidegate
