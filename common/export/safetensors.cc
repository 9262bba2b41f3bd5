#include "common/export/safetensors.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/strings.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tidegate {
namespace {

constexpr uint64_t kHeaderBytesMax = 100'000'000;  // as the format's own reader
constexpr double kExactDouble = 9007199254740992;  // 2^53: what JSON's numbers carry

uint64_t ElementBytes(const std::string& dtype) {
  static const auto* bytes = new std::map<std::string, uint64_t>{
      {"U64", 8}, {"I64", 8}, {"F64", 8}, {"F32", 4}, {"I32", 4}, {"U32", 4}, {"BF16", 2}, {"F16", 2}, {"U8", 1}};
  const auto it = bytes->find(dtype);
  return it == bytes->end() ? 0 : it->second;
}

std::string Quoted(const std::string& text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (u < 0x20) {
      absl::StrAppend(&out, "\\u00", std::string(1, kHex[u >> 4]), std::string(1, kHex[u & 15]));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

uint64_t Elements(const TensorInfo& tensor) {
  uint64_t elements = 1;
  for (const uint64_t s : tensor.shape) elements *= s;
  return elements;
}

std::string Header(const std::vector<TensorInfo>& tensors, const std::map<std::string, std::string>& metadata,
                   uint64_t* data_bytes) {
  std::vector<std::string> fields;
  std::vector<std::string> pairs;
  for (const auto& [name, value] : metadata) pairs.push_back(Quoted(name) + ":" + Quoted(value));
  if (!pairs.empty()) fields.push_back("\"__metadata__\":{" + absl::StrJoin(pairs, ",") + "}");
  uint64_t offset = 0;
  for (const TensorInfo& t : tensors) {
    const uint64_t end = offset + Elements(t) * ElementBytes(t.dtype);
    fields.push_back(absl::StrCat(Quoted(t.name), ":{\"dtype\":\"", t.dtype, "\",\"shape\":[", absl::StrJoin(t.shape, ","),
                                  "],\"data_offsets\":[", offset, ",", end, "]}"));
    offset = end;
  }
  *data_bytes = offset;
  std::string header = "{" + absl::StrJoin(fields, ",") + "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

using google::protobuf::Struct;
using google::protobuf::Value;

// A list of whole numbers from 0 on.
bool Integers(const Struct& object, const std::string& field, std::vector<uint64_t>* out) {
  const auto it = object.fields().find(field);
  if (it == object.fields().end() || !it->second.has_list_value()) return false;
  for (const Value& value : it->second.list_value().values()) {
    const double number = value.number_value();
    if (value.kind_case() != Value::kNumberValue || !(number >= 0 && number <= kExactDouble) || number != std::floor(number)) {
      return false;
    }
    out->push_back(static_cast<uint64_t>(number));
  }
  return true;
}

// "" or what is wrong with the tensor's entry.
std::string ReadTensor(const Value& value, std::string_view data, SafetensorsFile::Tensor* tensor) {
  if (!value.has_struct_value()) return "no object";
  const Struct& object = value.struct_value();
  const auto dtype = object.fields().find("dtype");
  if (dtype == object.fields().end()) return "no dtype";
  tensor->info.dtype = dtype->second.string_value();
  const uint64_t element_bytes = ElementBytes(tensor->info.dtype);
  if (element_bytes == 0) return "dtype \"" + tensor->info.dtype + "\" is not known here";
  std::vector<uint64_t> offsets;
  if (!Integers(object, "shape", &tensor->info.shape)) return "its shape is no list of sizes";
  if (!Integers(object, "data_offsets", &offsets) || offsets.size() != 2) return "its data_offsets are not two";
  if (offsets[0] > offsets[1] || offsets[1] > data.size()) {
    return absl::StrCat("bytes ", offsets[0], " to ", offsets[1], " of ", data.size());
  }
  uint64_t elements = 1;
  for (const uint64_t s : tensor->info.shape) {
    if (s != 0 && elements > std::numeric_limits<uint64_t>::max() / 8 / s) return "its shape is too large";
    elements *= s;
  }
  if (elements * element_bytes != offsets[1] - offsets[0]) {
    return absl::StrCat(elements, " elements in ", offsets[1] - offsets[0], " bytes");
  }
  tensor->elements = elements;
  tensor->bytes = data.substr(offsets[0], offsets[1] - offsets[0]);
  return "";
}

}  // namespace

struct SafetensorsWriter::Hash {
  XXH3_state_t state;
};

SafetensorsWriter::SafetensorsWriter() : hash_(std::make_unique<Hash>()) { XXH3_64bits_reset(&hash_->state); }
SafetensorsWriter::~SafetensorsWriter() = default;

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    FileSystem& files, const std::string& path, std::vector<TensorInfo> tensors,
    const std::map<std::string, std::string>& metadata) {
  auto writer = std::unique_ptr<SafetensorsWriter>(new SafetensorsWriter());
  std::set<std::string> names;
  for (const TensorInfo& t : tensors) {
    if (ElementBytes(t.dtype) == 0) return absl::InvalidArgumentError(absl::StrCat("tensor \"", t.name, "\": dtype ", t.dtype));
    if (!names.insert(t.name).second) return absl::InvalidArgumentError(absl::StrCat("two tensors are named \"", t.name, "\""));
  }
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return ElementBytes(a.dtype) > ElementBytes(b.dtype);
  });
  auto file = files.Create(path);
  if (!file.ok()) return file.status();
  writer->file_ = *std::move(file);
  writer->path_ = path;
  uint64_t data_bytes = 0;
  const std::string header = Header(tensors, metadata, &data_bytes);
  writer->tensors_ = std::move(tensors);
  const uint64_t header_bytes = header.size();
  writer->expected_ = sizeof(header_bytes) + header_bytes + data_bytes;
  const std::string head(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes));
  if (absl::Status s = writer->Append(head + header); !s.ok()) return s;
  return writer;
}

absl::Status SafetensorsWriter::Append(std::string_view bytes) {
  XXH3_64bits_update(&hash_->state, bytes.data(), bytes.size());
  written_.bytes += bytes.size();
  return file_->Append(bytes);
}

absl::StatusOr<SafetensorsWriter::Written> SafetensorsWriter::Finish() {
  if (written_.bytes != expected_) {
    return absl::FailedPreconditionError(absl::StrCat(path_, ": ", written_.bytes, " bytes written, ", expected_, " declared"));
  }
  if (absl::Status s = file_->Commit(); !s.ok()) return s;
  written_.xxh3 = XXH3_64bits_digest(&hash_->state);
  return written_;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Parse(std::string bytes, const std::string& name) {
  SafetensorsFile file;
  file.name_ = name;
  file.bytes_ = std::make_unique<const std::string>(std::move(bytes));
  const std::string_view all(*file.bytes_);
  const auto damaged = [&](const std::string& what) { return absl::DataLossError(absl::StrCat(name, ": ", what)); };
  uint64_t header_bytes = 0;
  if (all.size() < sizeof(header_bytes)) return damaged(absl::StrCat("only ", all.size(), " bytes: no safetensors file"));
  std::memcpy(&header_bytes, all.data(), sizeof(header_bytes));
  if (header_bytes > kHeaderBytesMax || header_bytes > all.size() - sizeof(header_bytes)) {
    return damaged(absl::StrCat("a header of ", header_bytes, " bytes in ", all.size(), ": no safetensors file, or truncated"));
  }
  Struct header;
  const std::string text(all.substr(sizeof(header_bytes), header_bytes));
  if (!google::protobuf::util::JsonStringToMessage(text, &header).ok()) return damaged("its header is no JSON object");
  const std::string_view data = all.substr(sizeof(header_bytes) + header_bytes);
  for (const auto& [tensor_name, value] : header.fields()) {
    if (tensor_name == "__metadata__") continue;
    Tensor tensor;
    tensor.info.name = tensor_name;
    const std::string what = ReadTensor(value, data, &tensor);
    if (!what.empty()) return damaged(absl::StrCat("tensor \"", tensor_name, "\": ", what));
    file.tensors_.emplace(tensor_name, std::move(tensor));
  }
  return file;
}

const SafetensorsFile::Tensor* SafetensorsFile::Find(const std::string& tensor) const {
  const auto it = tensors_.find(tensor);
  return it == tensors_.end() ? nullptr : &it->second;
}

}  // namespace tidegate
