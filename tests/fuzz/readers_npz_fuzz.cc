// Any bytes as an .npz file: an error, or whole lines of as many fields as columns.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/worker/data/npz_files.h"
#include "worker/data/columnar.h"
#include "worker/data/npz_text.h"

namespace tidegate {
namespace {

void Run(const uint8_t* data, size_t size) {
  static const int fd = memfd_create("npz", 0);
  TG_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
  TG_CHECK(pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  auto reader = OpenNpzText("/proc/self/fd/" + std::to_string(fd), {"x", "y"});
  if (!reader.ok()) return;
  std::string text(1 << 16, '\0');
  size_t total = 0, fields = 0, lines = 0;
  char last = '\n';
  while (total < (1 << 20)) {
    auto n = (*reader)->Read(text.data(), text.size());
    if (!n.ok()) return;
    if (*n == 0) {
      TG_CHECK(last == '\n');
      TG_CHECK(fields == lines);
      return;
    }
    total += *n;
    last = text[*n - 1];
    fields += static_cast<size_t>(std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(*n), columnar::kFieldEnd));
    lines += static_cast<size_t>(std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(*n), '\n'));
  }
}

std::string Seed(const std::string& dtype, const std::string& shape, const std::string& data, bool deflate) {
  return ZipOf({{"x.npy", NpyOf(dtype, shape, data), deflate},
                {"y.npy", NpyOf("<i4", "(2,)", BytesOf<int32_t>({1, -2})), !deflate}});
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tidegate::Run(data, size);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  using tidegate::BytesOf;
  using tidegate::Seed;
  return {Seed("<f4", "(2, 3)", BytesOf<float>({1, 2, 3, 4, 5, 6}), false),
          Seed("<f8", "(2,)", BytesOf<double>({1, 2}), true),
          Seed("<U2", "(2,)", BytesOf<uint32_t>({'a', 'b', 0x20ac, 0}), false),
          Seed("|S3", "(2,)", "abcde", false), Seed("|b1", "(2, 1)", "\1\1", true)};
}
