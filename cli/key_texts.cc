#include "cli/key_texts.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "worker/data/fields.h"
#include "worker/data/text_rows.h"

namespace tidegate::cli {
namespace {

constexpr uint64_t kGeneratedMax = 100000;  // values of a generated column; the frequent ones are the low ones
constexpr int kBucketMax = 2000;            // ln(x)^2 of the largest double is below

class Finder {
 public:
  Finder(const DataSchema& schema, std::set<std::pair<size_t, Key>> wanted) : schema_(schema), wanted_(std::move(wanted)) {}

  bool done() const { return wanted_.empty(); }
  KeyTexts Take() { return std::move(found_); }

  // A text that may be any feature's: a key tells by itself whose it is.
  void Try(std::string_view text) {
    if (text.empty()) return;
    for (size_t f = 0; f < schema_.features.size(); ++f) {
      const DataSchema::Feature& feature = schema_.features[f];
      const Key hash = FeatureKey(feature.salt, text);
      const auto it = wanted_.find({f, feature.hash_buckets == 0 ? hash : hash % feature.hash_buckets});
      if (it == wanted_.end()) continue;
      found_[*it] = std::string(text);
      wanted_.erase(it);
    }
  }

  // What LOG2_BUCKET makes of numbers, and generated values.
  void TryNumbers(uint64_t max) {
    for (uint64_t i = 0; i < max && !done(); ++i) Try(absl::StrCat(i));
    for (int i = -100; i <= 2; ++i) Try(absl::StrCat("SP", i));
  }

  void TryLine(std::string_view line) {
    switch (schema_.format) {
      case DataConfig::CSV: {
        std::string what;
        CsvSplitter splitter(schema_.csv.delimiter, true);
        if (!splitter.Split(line, schema_.columns + 1, &what) || splitter.fields().size() != schema_.columns) return;
        for (const DataSchema::Feature& f : schema_.features) {
          const std::string_view text = splitter.fields()[f.column];
          f.multi_valued ? TryPieces(text, std::string(1, f.separator)) : Try(text);
        }
        return;
      }
      case DataConfig::CRITEO_TSV:
        return TryPieces(line, "\t");
      default:
        return TryTokens(line);
    }
  }

 private:
  void TryPieces(std::string_view text, const std::string& ends) {
    while (!text.empty()) {
      const size_t end = std::min(text.find_first_of(ends), text.size());
      Try(text.substr(0, end));
      text.remove_prefix(std::min(text.size(), end + 1));
    }
  }
  // `index:value` and `field:index:value`: the one before the last.
  void TryTokens(std::string_view line) {
    while (!line.empty()) {
      const size_t end = std::min(line.find_first_of(" \t"), line.size());
      std::string_view token = line.substr(0, end);
      line.remove_prefix(std::min(line.size(), end + 1));
      const size_t colon = token.rfind(':');
      if (colon == token.npos) continue;
      token = token.substr(0, colon);
      const size_t first = schema_.format == DataConfig::LIBFFM ? token.find(':') : token.npos;
      Try(first == token.npos ? token : token.substr(first + 1));
    }
  }

  const DataSchema& schema_;
  std::set<std::pair<size_t, Key>> wanted_;
  KeyTexts found_;
};

}  // namespace

absl::StatusOr<KeyTexts> FindKeyTexts(const DataSchema& schema, const Source& source, std::set<std::pair<size_t, Key>> wanted, uint64_t lines) {
  Finder finder(schema, std::move(wanted));
  const bool generated = schema.format == DataConfig::GENERATED;
  finder.TryNumbers(generated ? kGeneratedMax : kBucketMax);
  const bool text = schema.format == DataConfig::CSV || schema.format == DataConfig::CRITEO_TSV || schema.format == DataConfig::LIBSVM ||
                    schema.format == DataConfig::LIBFFM;
  if (!text || source.sequential() || finder.done()) return finder.Take();
  auto files = ExpandFiles({source.files().begin(), source.files().end()});
  if (!files.ok()) return files.status();
  std::vector<TextRows::Piece> pieces;
  for (const std::string& file : *files) pieces.push_back({static_cast<uint32_t>(pieces.size()), file, 0, LineReader::kToEnd});
  TextRows::CheckHeader header;
  if (schema.format == DataConfig::CSV && schema.csv.header) header = [](const std::string&, std::string_view) { return absl::OkStatus(); };
  TextRows rows(std::move(pieces), header);
  Row row;
  for (uint64_t i = 0; i < lines && !finder.done(); ++i) {
    auto more = rows.Next(&row);
    if (!more.ok()) return more.status();
    if (!*more) break;
    if (!row.too_long) finder.TryLine(row.text());
  }
  return finder.Take();
}

}  // namespace tidegate::cli
