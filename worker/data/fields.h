#pragma once
// A line of text cut into fields. Inside of worker/data.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tidegate {

// Where `delimiter` stands in `text`: the first `max` offsets go to `at`; returns how many, at most
// `max`.
uint32_t FindDelimiters(std::string_view text, char delimiter, uint32_t max, uint32_t* at);

// `(user,item)`. False: it is none.
bool SplitPair(std::string_view text, std::string_view* user, std::string_view* item);

// Fields of one line of CSV (RFC 4180, without line breaks inside of fields): a field that begins
// with a quote ends with one, and "" in it is a quote. Not thread-safe; keeps its memory.
class CsvSplitter {
 public:
  CsvSplitter(char delimiter, bool quotes) : delimiter_(delimiter), quotes_(quotes) {}

  // False: the line is damaged, or has more than `max` fields; *what says so. The fields point into
  // `text` or into this object, until the next call.
  bool Split(std::string_view text, uint32_t max, std::string* what);
  const std::vector<std::string_view>& fields() const { return fields_; }

 private:
  bool SplitQuoted(std::string_view text, uint32_t max, std::string* what);

  const char delimiter_;
  const bool quotes_;
  std::vector<uint32_t> at_;
  std::vector<std::string_view> fields_;
  std::string unquoted_;
};

}  // namespace tidegate
