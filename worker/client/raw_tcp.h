#pragma once
// The ceiling of the wire: requests and answers of given sizes over one TCP connection on loopback,
// between two threads, with nothing done to the bytes.

#include <cstddef>

#include "absl/status/statusor.h"

namespace tidegate {

// Round trips per second, `in_flight` at a time, for about `seconds`.
absl::StatusOr<double> RawTcpRoundTrips(size_t request_bytes, size_t answer_bytes, int in_flight,
                                        double seconds);

}  // namespace tidegate
