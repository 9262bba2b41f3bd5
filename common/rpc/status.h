#pragma once
// absl::Status <-> grpc::Status: the codes are the same numbers.

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace tidegate {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace tidegate
