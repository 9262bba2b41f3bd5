#pragma once
// TensorBoard's event files, as far as scalars go: TFRecords of tensorflow.Event protobufs, encoded by hand.
// https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto
// Thread-safe (functions only).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proto/cluster.pb.h"

namespace tidegate {

// CRC-32C (Castagnoli) of the bytes.
uint32_t Crc32c(std::string_view bytes);

// length (8 bytes) | masked CRC of it | payload | masked CRC of it; little endian.
std::string TfRecord(std::string_view payload);

// The first record of a file.
std::string EventFileHeader(double wall_time);
// One event with a scalar for each value that is finite, as float32. `wall_time`: seconds since 1970.
std::string ScalarEvent(double wall_time, int64_t step, const std::vector<MetricValue>& values);

}  // namespace tidegate
