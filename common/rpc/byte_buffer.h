#pragma once
// Raw messages: grpc::ByteBuffer <-> spans and pieces, without copying big buffers.

#include <grpc/slice.h>
#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "common/wire/shard_wire.h"

namespace tidegate {

// A received message as contiguous bytes, kept alive by `owner`. One slice: no copy; several: one.
struct OwnedBytes {
  std::shared_ptr<const void> owner;
  wire::Bytes bytes;
};
OwnedBytes ToContiguous(const grpc::ByteBuffer& buffer);
// The same without a copy: its slices, viewed.
struct OwnedFragments {
  std::vector<grpc::Slice> slices;
  wire::Fragments bytes;
};
OwnedFragments ToFragments(const grpc::ByteBuffer& buffer);

// Memory for a reply's rows that becomes a slice without a copy.
class SliceBuffer {
 public:
  // Never inlined into the slice itself: bytes() stay where they are when this moves.
  explicit SliceBuffer(size_t bytes) : slice_(grpc_slice_malloc_large(bytes)) {}
  SliceBuffer(SliceBuffer&& other) noexcept : slice_(other.slice_) {
    other.slice_ = grpc_empty_slice();
  }
  SliceBuffer& operator=(SliceBuffer&& other) noexcept {
    std::swap(slice_, other.slice_);
    return *this;
  }
  ~SliceBuffer() { grpc_slice_unref(slice_); }
  std::span<std::byte> bytes() const {
    if (slice_.refcount == nullptr) return {};  // moved from
    return {reinterpret_cast<std::byte*>(slice_.data.refcounted.bytes),
            slice_.data.refcounted.length};
  }
  size_t size() const { return bytes().size(); }
  grpc::Slice Share() const { return grpc::Slice(slice_, grpc::Slice::ADD_REF); }

 private:
  grpc_slice slice_;
};

// Heads are copied (they are small). Payloads are not: each goes out as a slice that holds `owner` until
// gRPC has sent it.
grpc::ByteBuffer ToByteBuffer(const wire::Pieces& pieces, const std::shared_ptr<const void>& owner);
// As above, each non-empty payload in order taken from `payloads` (same bytes).
grpc::ByteBuffer ToByteBuffer(const wire::Pieces& pieces, std::span<const SliceBuffer> payloads);

}  // namespace tidegate
