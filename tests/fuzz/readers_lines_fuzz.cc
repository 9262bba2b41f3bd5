// Any bytes, cut anywhere, read in pieces of any size: two byte ranges give the lines of the whole.
// The first three bytes are the cut and the piece.

#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/readers_memory.h"
#include "worker/data/text_rows.h"

namespace tidegate {
namespace {

void Append(const std::string& bytes, size_t piece, uint64_t begin, uint64_t end,
            std::vector<std::string>* out) {
  LineReader reader(std::make_unique<MemoryReader>(bytes.substr(begin == 0 ? 0 : begin - 1), piece),
                    begin, end);
  LineReader::Line line;
  for (;;) {
    const absl::StatusOr<bool> more = reader.Next(&line);
    TG_CHECK(more.ok()) << more.status();
    if (!*more) return;
    TG_CHECK(line.offset >= begin && line.offset < end);
    TG_CHECK(line.offset + line.size <= bytes.size());
    out->emplace_back(line.size == 0 ? "" : std::string(line.data, line.size));
  }
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  const uint64_t cut = (data[0] + 256u * data[1]) % (bytes.size() + 1);
  const size_t piece = 1 + data[2];
  std::vector<std::string> whole;
  std::vector<std::string> parts;
  tidegate::Append(bytes, piece, 0, tidegate::LineReader::kToEnd, &whole);
  tidegate::Append(bytes, piece, 0, cut, &parts);
  tidegate::Append(bytes, piece, cut, bytes.size(), &parts);
  TG_CHECK(whole == parts) << whole.size() << " lines, in parts " << parts.size();
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {std::string("\x05\x00\x03", 3) + "1 2:3\n0 4:5\r\n\n1 6:7",
          std::string("\x01\x00\x00", 3) + "\xef\xbb\xbf\n\r\n\r\r\n"};
}
