#include "worker/data/fields.h"

#include <bit>
#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "absl/strings/str_cat.h"

namespace tidegate {

uint32_t FindDelimiters(std::string_view text, char delimiter, uint32_t max, uint32_t* at) {
  uint32_t n = 0;
  size_t i = 0;
#ifdef __AVX2__
  const __m256i wanted = _mm256_set1_epi8(delimiter);
  for (; i + 32 <= text.size(); i += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text.data() + i));
    auto mask = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, wanted)));
    while (mask != 0) {
      if (n == max) return n;
      at[n++] = static_cast<uint32_t>(i) + static_cast<uint32_t>(std::countr_zero(mask));
      mask &= mask - 1;
    }
  }
#endif
  for (; i < text.size(); ++i) {
    if (text[i] != delimiter) continue;
    if (n == max) return n;
    at[n++] = static_cast<uint32_t>(i);
  }
  return n;
}

bool SplitPair(std::string_view text, std::string_view* user, std::string_view* item) {
  const size_t comma = text.find(',');
  if (text.size() < 5 || text.front() != '(' || text.back() != ')' || comma == std::string_view::npos || comma == 1 ||
      comma + 2 == text.size() || text.find(',', comma + 1) != std::string_view::npos) {
    return false;
  }
  *user = text.substr(1, comma - 1);
  *item = text.substr(comma + 1, text.size() - comma - 2);
  return true;
}

bool CsvSplitter::Split(std::string_view text, uint32_t max, std::string* what) {
  fields_.clear();
  if (quotes_ && std::memchr(text.data(), '"', text.size()) != nullptr) {
    return SplitQuoted(text, max, what);
  }
  at_.resize(max);
  const uint32_t n = FindDelimiters(text, delimiter_, max, at_.data());
  if (n == max) {
    *what = absl::StrCat("more than ", max, " columns");
    return false;
  }
  size_t begin = 0;
  for (uint32_t i = 0; i < n; ++i) {
    fields_.emplace_back(text.data() + begin, at_[i] - begin);
    begin = at_[i] + size_t{1};
  }
  fields_.emplace_back(text.data() + begin, text.size() - begin);
  return true;
}

bool CsvSplitter::SplitQuoted(std::string_view text, uint32_t max, std::string* what) {
  unquoted_.clear();
  unquoted_.reserve(text.size());  // views into it stay good
  const char* p = text.data();
  const char* const end = p + text.size();
  for (;;) {
    if (fields_.size() == max) {
      *what = absl::StrCat("more than ", max, " columns");
      return false;
    }
    const char* const begin = p;
    if (p == end || *p != '"') {
      while (p != end && *p != delimiter_) ++p;
      fields_.emplace_back(begin, static_cast<size_t>(p - begin));
    } else {
      const size_t from = unquoted_.size();
      for (++p;;) {
        const auto* quote =
            static_cast<const char*>(std::memchr(p, '"', static_cast<size_t>(end - p)));
        if (quote == nullptr) {
          *what = absl::StrCat("column ", fields_.size() + 1,
                               ": its quote is not closed (a field cannot hold a line break)");
          return false;
        }
        unquoted_.append(p, quote);
        p = quote + 1;
        if (p == end || *p != '"') break;
        unquoted_ += *p++;
      }
      if (p != end && *p != delimiter_) {
        *what = absl::StrCat("column ", fields_.size() + 1, ": text after its closing quote");
        return false;
      }
      fields_.emplace_back(unquoted_.data() + from, unquoted_.size() - from);
    }
    if (p == end) return true;
    ++p;
  }
}

}  // namespace tidegate
