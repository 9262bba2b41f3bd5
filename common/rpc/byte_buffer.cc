#include "common/rpc/byte_buffer.h"

#include <cstring>
#include <vector>

namespace tidegate {
namespace {

// Below this a copy costs less than a slice of its own.
constexpr size_t kCopyBelowBytes = 256;

using SharedOwner = std::shared_ptr<const void>;

class Assembler {
 public:
  void Copy(const void* data, size_t size) { small_.append(static_cast<const char*>(data), size); }
  void Add(grpc::Slice slice) {
    Flush();
    slices_.push_back(std::move(slice));
  }
  grpc::ByteBuffer Finish() {
    Flush();
    if (slices_.empty()) slices_.emplace_back();  // a ByteBuffer without slices is not a message
    return grpc::ByteBuffer(slices_.data(), slices_.size());
  }

 private:
  void Flush() {
    if (small_.empty()) return;
    slices_.emplace_back(small_);
    small_.clear();
  }
  std::string small_;
  std::vector<grpc::Slice> slices_;
};

}  // namespace

OwnedBytes ToContiguous(const grpc::ByteBuffer& buffer) {
  auto single = std::make_shared<grpc::Slice>();
  if (!buffer.TrySingleSlice(single.get()).ok()) {
    if (!buffer.DumpToSingleSlice(single.get()).ok()) return {};
  }
  const wire::Bytes bytes(reinterpret_cast<const std::byte*>(single->begin()), single->size());
  return {std::move(single), bytes};
}

OwnedFragments ToFragments(const grpc::ByteBuffer& buffer) {
  OwnedFragments out;
  if (!buffer.Dump(&out.slices).ok()) return out;
  for (const grpc::Slice& slice : out.slices) {  // a short slice holds its bytes itself: they stay put from here on
    out.bytes.Add({reinterpret_cast<const std::byte*>(slice.begin()), slice.size()});
  }
  return out;
}

grpc::ByteBuffer ToByteBuffer(const wire::Pieces& pieces, const SharedOwner& owner) {
  Assembler out;
  for (const wire::Piece& piece : pieces) {
    out.Copy(piece.head.data(), piece.head.size());
    if (piece.payload.size() < kCopyBelowBytes) {
      out.Copy(piece.payload.data(), piece.payload.size());
    } else {
      out.Add(grpc::Slice(const_cast<std::byte*>(piece.payload.data()), piece.payload.size(),
                          [](void* held) { delete static_cast<SharedOwner*>(held); },
                          new SharedOwner(owner)));
    }
  }
  return out.Finish();
}

grpc::ByteBuffer ToByteBuffer(const wire::Pieces& pieces, std::span<const SliceBuffer> payloads) {
  Assembler out;
  size_t next = 0;
  for (const wire::Piece& piece : pieces) {
    out.Copy(piece.head.data(), piece.head.size());
    if (piece.payload.empty()) continue;
    while (next < payloads.size() && payloads[next].size() == 0) ++next;
    out.Add(payloads[next++].Share());
  }
  return out.Finish();
}

}  // namespace tidegate
