#pragma once
// ZIP files with arrays, as numpy writes them.

#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace tidegate {

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  std::string out(values.size() * sizeof(T), '\0');
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

inline std::string NpyOf(const std::string& dtype, const std::string& shape, const std::string& data,
                         bool fortran = false) {
  std::string header = "{'descr': '" + dtype + "', 'fortran_order': " + (fortran ? "True" : "False") +
                       ", 'shape': " + shape + ", }";
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(header.size() & 255);
  out += static_cast<char>(header.size() >> 8);
  return out + header + data;
}

struct TestEntry {
  std::string name;
  std::string content;
  bool deflate = false;
};

inline std::string ZipOf(const std::vector<TestEntry>& entries) {
  std::string out, directory;
  const auto put = [](std::string* to, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i, value >>= 8) *to += static_cast<char>(value);
  };
  for (const TestEntry& e : entries) {
    std::string body = e.content;
    if (e.deflate) {
      z_stream s{};
      deflateInit2(&s, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
      body.assign(deflateBound(&s, e.content.size()) + 64, '\0');
      s.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(e.content.data()));
      s.avail_in = static_cast<uInt>(e.content.size());
      s.next_out = reinterpret_cast<Bytef*>(body.data());
      s.avail_out = static_cast<uInt>(body.size());
      deflate(&s, Z_FINISH);
      body.resize(s.total_out);
      deflateEnd(&s);
    }
    const uint64_t header = out.size();
    const auto crc = crc32(0, reinterpret_cast<const Bytef*>(e.content.data()), static_cast<uInt>(e.content.size()));
    const auto common = [&](std::string* to) {
      put(to, 20, 2);
      put(to, 0, 2);
      put(to, e.deflate ? 8 : 0, 2);
      put(to, 0, 4);
      put(to, crc, 4);
      put(to, body.size(), 4);
      put(to, e.content.size(), 4);
      put(to, e.name.size(), 2);
    };
    out += "PK\3\4";
    common(&out);
    put(&out, 0, 2);
    out += e.name + body;
    directory += "PK\1\2";
    put(&directory, 20, 2);
    common(&directory);
    put(&directory, 0, 12);
    put(&directory, header, 4);
    directory += e.name;
  }
  const uint64_t begin = out.size();
  out += directory + "PK\5\6";
  put(&out, 0, 4);
  put(&out, entries.size(), 2);
  put(&out, entries.size(), 2);
  put(&out, directory.size(), 4);
  put(&out, begin, 4);
  put(&out, 0, 2);
  return out;
}

}  // namespace tidegate
