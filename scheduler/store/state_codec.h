#pragma once
// A SchedulerState as bytes (docs/formats.md). Functions only. What is read may come from anywhere: DATA_LOSS: cut
// short or changed; FAILED_PRECONDITION: a newer format. Errors begin with `name`.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

// "TGSTATE1", the message, XXH3-64 of it.
std::string EncodeState(const SchedulerState& state);
absl::StatusOr<SchedulerState> DecodeState(std::string_view bytes, const std::string& name);

// "TGSTATZ1", and the above in a zstd frame.
std::string CompressEncoded(std::string_view encoded);
std::string CompressState(const SchedulerState& state);
absl::StatusOr<SchedulerState> DecompressState(std::string_view bytes, const std::string& name);

}  // namespace tidegate
