#include "scheduler/store/event_file.h"

#include <array>
#include <bit>
#include <cmath>

namespace tidegate {
namespace {

// Protobuf wire format: a key is field number << 3 | type.
constexpr uint8_t kWallTime = 1 << 3 | 1;     // Event.wall_time, double
constexpr uint8_t kStep = 2 << 3 | 0;         // Event.step, int64
constexpr uint8_t kFileVersion = 3 << 3 | 2;  // Event.file_version, string
constexpr uint8_t kSummary = 5 << 3 | 2;      // Event.summary
constexpr uint8_t kValue = 1 << 3 | 2;        // Summary.value
constexpr uint8_t kTag = 1 << 3 | 2;          // Summary.Value.tag, string
constexpr uint8_t kSimpleValue = 2 << 3 | 5;  // Summary.Value.simple_value, float

template <typename Int>
void AppendInt(Int value, std::string* out) {
  for (size_t i = 0; i < sizeof(Int); ++i) out->push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) out->push_back(static_cast<char>(value | 0x80));
  out->push_back(static_cast<char>(value));
}

void AppendBytes(uint8_t key, std::string_view bytes, std::string* out) {
  out->push_back(static_cast<char>(key));
  AppendVarint(bytes.size(), out);
  out->append(bytes);
}

std::string EventAt(double wall_time) {
  std::string event(1, static_cast<char>(kWallTime));
  AppendInt(std::bit_cast<uint64_t>(wall_time), &event);
  return event;
}

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

uint32_t MaskedCrc(std::string_view bytes) {
  const uint32_t crc = Crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

std::string TfRecord(std::string_view payload) {
  std::string record;
  AppendInt<uint64_t>(payload.size(), &record);
  AppendInt(MaskedCrc(record), &record);
  record.append(payload);
  AppendInt(MaskedCrc(payload), &record);
  return record;
}

std::string EventFileHeader(double wall_time) {
  std::string event = EventAt(wall_time);
  AppendBytes(kFileVersion, "brain.Event:2", &event);
  return TfRecord(event);
}

std::string ScalarEvent(double wall_time, int64_t step, const std::vector<MetricValue>& values) {
  std::string event = EventAt(wall_time);
  event.push_back(static_cast<char>(kStep));
  AppendVarint(static_cast<uint64_t>(step), &event);
  std::string summary;
  for (const MetricValue& metric : values) {
    if (!std::isfinite(metric.value())) continue;
    std::string value;
    AppendBytes(kTag, metric.name(), &value);
    value.push_back(static_cast<char>(kSimpleValue));
    AppendInt(std::bit_cast<uint32_t>(static_cast<float>(metric.value())), &value);
    AppendBytes(kValue, value, &summary);
  }
  AppendBytes(kSummary, summary, &event);
  return TfRecord(event);
}

}  // namespace tidegate
