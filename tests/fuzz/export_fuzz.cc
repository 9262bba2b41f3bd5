// An export from anywhere: spec.json, a NUL byte, model.safetensors. An error or tables that fit, never a crash.
#include <string>

#include "common/export/export_reader.h"
#include "common/logging.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

tidegate::ExportSpec Spec() {
  tidegate::ExportSpec spec;
  spec.set_format(tidegate::kExportFormat);
  tidegate::TableSpec* table = spec.add_tables();
  table->set_id(0);
  table->set_name("t");
  table->add_parts()->set_name("w");
  table->mutable_parts(0)->set_dim(1);
  return spec;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  (void)tidegate::SafetensorsFile::Parse(input, "fuzz");
  const size_t end = input.find('\0');
  if (end == std::string::npos) return 0;
  auto spec = tidegate::ParseExportSpec(input.substr(0, end), "fuzz");
  auto reader = tidegate::ExportReader::Parse(spec.ok() ? *spec : Spec(), input.substr(end + 1), "fuzz");
  if (!reader.ok()) return 0;
  for (const tidegate::TableSpec& table : reader->spec().tables()) {
    if (table.kind() != tidegate::TableSpec::SPARSE) continue;
    for (int p = 0; p < table.parts_size(); ++p) {
      TG_CHECK(reader->values(table.id(), static_cast<size_t>(p)).size() == reader->keys(table.id()).size() * table.parts(p).dim());
    }
  }
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  const std::string header = R"({"t.keys":{"dtype":"U64","shape":[1],"data_offsets":[0,8]},"t.w":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]}})";
  const uint64_t length = header.size();
  const std::string tensors = std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + std::string(12, '\1');
  return {tensors, tidegate::ExportSpecJson(Spec()) + std::string(1, '\0') + tensors, std::string("x\0", 2) + tensors};
}
