#include "scheduler/store/state_codec.h"

#include <zstd.h>

#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/stable_hash.h"
#include "common/strings.h"

namespace tidegate {
namespace {

constexpr std::string_view kMagic = "TGSTATE1";
constexpr std::string_view kCompressedMagic = "TGSTATZ1";
constexpr uint64_t kStateBytesMax = 1ull << 30;
constexpr int kLevel = 1;

absl::Status Damaged(const std::string& name, const char* what) {
  return absl::DataLossError(
      absl::StrCat(name, ": ", what, "; bring back a copy, or start the job again with an empty --state"));
}

absl::Status CheckMagic(std::string_view bytes, std::string_view magic, const std::string& name) {
  if (bytes.substr(0, magic.size()) == magic) return absl::OkStatus();
  if (bytes.substr(0, magic.size() - 1) != magic.substr(0, magic.size() - 1) || bytes.size() < magic.size()) {
    return Damaged(name, "not a scheduler's state");
  }
  return absl::FailedPreconditionError(absl::StrCat(name, ": written by another version of tidegate-scheduler (",
                                                    ToAbsl(bytes.substr(0, magic.size())), ", this one reads ",
                                                    ToAbsl(magic), ")"));
}

struct FreeStream {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

// Grows with what comes out: a frame's own word on its size is not believed.
absl::StatusOr<std::string> Decompress(std::string_view frame, const std::string& name) {
  const std::unique_ptr<ZSTD_DStream, FreeStream> stream(ZSTD_createDStream());
  ZSTD_inBuffer in = {frame.data(), frame.size(), 0};
  std::string out;
  size_t left = 1;
  while (left != 0) {
    if (out.size() > kStateBytesMax) return Damaged(name, "too large");
    const size_t begin = out.size();
    out.resize(begin + ZSTD_DStreamOutSize());
    ZSTD_outBuffer to = {out.data() + begin, out.size() - begin, 0};
    const size_t read = in.pos;
    left = ZSTD_decompressStream(stream.get(), &to, &in);
    if (ZSTD_isError(left)) return Damaged(name, "cannot be decompressed");
    out.resize(begin + to.pos);
    if (left != 0 && to.pos == 0 && in.pos == read) return Damaged(name, "truncated");
  }
  if (in.pos != in.size) return Damaged(name, "followed by other bytes");
  return out;
}

}  // namespace

std::string EncodeState(const SchedulerState& state) {
  std::string bytes(kMagic);
  state.AppendToString(&bytes);
  const uint64_t checksum = StableHash(std::string_view(bytes).substr(kMagic.size()));
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return bytes;
}

absl::StatusOr<SchedulerState> DecodeState(std::string_view bytes, const std::string& name) {
  if (bytes.size() < kMagic.size() + sizeof(uint64_t)) return Damaged(name, "truncated");
  if (absl::Status s = CheckMagic(bytes, kMagic, name); !s.ok()) return s;
  const std::string_view body = bytes.substr(kMagic.size(), bytes.size() - kMagic.size() - sizeof(uint64_t));
  uint64_t checksum;
  std::memcpy(&checksum, bytes.data() + bytes.size() - sizeof(checksum), sizeof(checksum));
  if (checksum != StableHash(body)) return Damaged(name, "the checksum does not match");
  SchedulerState state;
  if (!state.ParseFromArray(body.data(), static_cast<int>(body.size()))) return Damaged(name, "malformed");
  return state;
}

std::string CompressEncoded(std::string_view bytes) {
  std::string out(kCompressedMagic);
  out.resize(kCompressedMagic.size() + ZSTD_compressBound(bytes.size()));
  const size_t size = ZSTD_compress(out.data() + kCompressedMagic.size(), out.size() - kCompressedMagic.size(),
                                    bytes.data(), bytes.size(), kLevel);
  TG_CHECK(!ZSTD_isError(size)) << ZSTD_getErrorName(size);
  out.resize(kCompressedMagic.size() + size);
  return out;
}

std::string CompressState(const SchedulerState& state) { return CompressEncoded(EncodeState(state)); }

absl::StatusOr<SchedulerState> DecompressState(std::string_view bytes, const std::string& name) {
  if (absl::Status s = CheckMagic(bytes, kCompressedMagic, name); !s.ok()) return s;
  const auto inner = Decompress(bytes.substr(kCompressedMagic.size()), name);
  if (!inner.ok()) return inner.status();
  return DecodeState(*inner, name);
}

}  // namespace tidegate
