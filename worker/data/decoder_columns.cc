#include "worker/data/decoder_columns.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace tidegate {

bool ParseNumber(std::string_view text, double* out) {
  static constexpr double kPower[] = {1,   1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                      1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
  const char* p = text.data();
  const char* const end = p + text.size();
  const bool negative = p != end && *p == '-';
  if (p != end && (*p == '-' || *p == '+')) ++p;
  const char* const start = p;
  // Up to 15 digits and a power of ten below 1e16: both exact, so one rounding (Clinger 1990).
  uint64_t mantissa = 0;
  int digits = 0;
  int decimals = 0;
  while (p != end && static_cast<unsigned char>(*p - '0') < 10 && digits < 16) {
    mantissa = mantissa * 10 + static_cast<uint64_t>(*p++ - '0');
    ++digits;
  }
  if (p != end && *p == '.') {
    ++p;
    while (p != end && static_cast<unsigned char>(*p - '0') < 10 && digits < 16) {
      mantissa = mantissa * 10 + static_cast<uint64_t>(*p++ - '0');
      ++digits;
      ++decimals;
    }
  }
  if (p == end && digits > 0 && digits < 16) {
    const double x = static_cast<double>(mantissa) / kPower[decimals];
    *out = negative ? -x : x;
    return true;
  }
  if (start == end || *start == '-' || *start == '+') return false;
  double x = 0;
  const auto [stop, error] = std::from_chars(start, end, x);
  if (error != std::errc() || stop != end || !std::isfinite(x)) return false;
  *out = negative ? -x : x;
  return true;
}

std::string Quoted(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  static constexpr size_t kMax = 40;
  std::string out = "\"";
  for (const char c : text.substr(0, kMax)) {
    const auto u = static_cast<unsigned char>(c);
    if (u >= 0x20 && u < 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += kHex[u >> 4];
      out += kHex[u & 15];
    }
  }
  out += text.size() > kMax ? "...\"" : "\"";
  return out;
}

namespace decoder {

void AddBucket(const DataSchema::Feature& f, double x, FeatureColumn* column) {
  char text[24] = {'S', 'P'};
  char* from = text + 2;
  double bucket = 0;
  if (x > 2) {
    const double l = std::log(x);
    bucket = std::floor(l * l);
    from = text;
  } else {
    bucket = std::max(std::floor(x), -1e18);
  }
  const auto [end, error] = std::to_chars(from, text + sizeof(text), static_cast<int64_t>(bucket));
  AddId(f, std::string_view(text, static_cast<size_t>(end - text)), column);
}

namespace {

constexpr size_t kSmall = 10000;

// n > 2: 3 + floor(log(n)^2), at most 87; else n.
const std::array<uint8_t, kSmall>& SmallIndex() {
  static const auto* table = [] {
    auto* index = new std::array<uint8_t, kSmall>{0, 1, 2};
    for (size_t n = 3; n < kSmall; ++n) {
      const double l = std::log(static_cast<double>(n));
      (*index)[n] = static_cast<uint8_t>(3 + std::floor(l * l));
    }
    return index;
  }();
  return *table;
}

}  // namespace

SmallBuckets::SmallBuckets(const DataSchema::Feature& f) : index_(SmallIndex().data()) {
  if (!f.log2_bucket) return;
  FeatureColumn key;
  for (size_t n = 0; n < kSmall; ++n) {
    if (n > 0 && index_[n] == index_[n - 1]) continue;
    AddBucket(f, static_cast<double>(n), &key);
    keys_.resize(index_[n] + size_t{1});
    keys_.back() = key.keys.back();
  }
}

float Transform(NumericFeature::Transform transform, double x) {
  if (transform == NumericFeature::LOG1P)
    return static_cast<float>(std::copysign(std::log1p(std::fabs(x)), x));
  return static_cast<float>(x);
}

bool OutOfRange(std::string_view name, double x, const char* text, std::string* what) {
  *what = absl::StrCat(ToAbsl(name), ": ", x, text);
  return false;
}

bool ShortenTo(const DataSchema::Feature& f, size_t have, FeatureColumn* column,
               std::string* what) {
  if (f.overlong == IdFeature::REFUSE) {
    *what = absl::StrCat(f.name, ": ", have, " values, more than max_values (", f.max_values, ")");
    return false;
  }
  const auto begin = static_cast<ptrdiff_t>(column->offsets.back());
  const auto extra = static_cast<ptrdiff_t>(have - f.max_values);
  const ptrdiff_t first =
      f.overlong == IdFeature::KEEP_LAST ? begin : begin + static_cast<ptrdiff_t>(f.max_values);
  column->keys.erase(column->keys.begin() + first, column->keys.begin() + first + extra);
  if (f.use_values) {
    column->weights.erase(column->weights.begin() + first, column->weights.begin() + first + extra);
  }
  return true;
}

void Rollback(Batch* batch) {
  for (FeatureColumn& c : batch->features) {
    c.offsets.resize(batch->rows + 1);
    c.keys.resize(c.offsets.back());
    if (c.weights.size() > c.keys.size()) c.weights.resize(c.keys.size());
  }
  for (auto& n : batch->numeric) n.resize(batch->rows);
  for (auto& l : batch->labels) l.resize(batch->rows);
  const auto cut = [batch](auto* column) {
    if (column->size() > batch->rows) column->resize(batch->rows);
  };
  cut(&batch->sample_weight);
  cut(&batch->group_id);
  cut(&batch->timestamp);
}

void ForgetRows(size_t rows, Batch* batch) {
  batch->rows = rows;
  for (FeatureColumn& c : batch->features) c.offsets.resize(rows + 1);
  batch->sample_id.resize(rows);
  Rollback(batch);
}

}  // namespace decoder
}  // namespace tidegate
