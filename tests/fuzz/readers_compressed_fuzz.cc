// gzip and zstd from any bytes: text, or an error; never more than asked for, never for ever.

#include <zlib.h>
#include <zstd.h>

#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/readers_memory.h"
#include "tests/worker/data/test_files.h"

namespace tidegate {
namespace {

void Drain(std::unique_ptr<ByteReader> reader) {
  char buffer[1 << 12];
  for (size_t total = 0; total < (size_t{1} << 20);) {
    const absl::StatusOr<size_t> n = reader->Read(buffer, sizeof(buffer));
    if (!n.ok()) {
      TG_CHECK(absl::IsDataLoss(n.status())) << n.status();
      return;
    }
    TG_CHECK(*n <= sizeof(buffer));
    if (*n == 0) return;
    total += *n;
  }
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tidegate::MemoryReader;
  if (size == 0) return 0;
  const size_t piece = 1 + data[0];
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  tidegate::Drain(tidegate::NewGzipReader(std::make_unique<MemoryReader>(bytes, piece), "gzip"));
  tidegate::Drain(tidegate::NewZstdReader(std::make_unique<MemoryReader>(bytes, piece), "zstd"));
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  std::string text;
  for (int i = 0; i < 200; ++i) text += std::to_string(i * i) + ":1 ";
  const std::string piece = "\x40";
  return {piece + tidegate::Gzip(text), piece + tidegate::Gzip(text) + tidegate::Gzip("more"),
          piece + tidegate::Zstd(text), piece + tidegate::Zstd(text) + tidegate::Zstd("more")};
}
