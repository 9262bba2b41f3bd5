// tidegate-parquet FILE COLUMN...: the columns of a Parquet file as lines of text on standard output, as
// worker/data/columnar.h says. A worker starts one for each file that it reads. A program of its own, so
// that Arrow's libraries (from the pyarrow wheel) never share a process with the system's gRPC,
// protobuf and Abseil, and a build without them lacks nothing else.
//
// Exit status: 0; 1 with one line on standard error: the file cannot be read; 2: usage.

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/exception.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/columnar.h"

namespace tidegate {
namespace {

using arrow::Array;
using arrow::Status;
using arrow::Type;

template <typename T>
void AppendNumber(T value, std::string* out) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(value)) return;  // missing
  }
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  out->append(text, end);
}

Status AppendText(std::string_view text, std::string* out) {
  if (std::any_of(text.begin(), text.end(), columnar::IsReserved)) {
    return Status::Invalid("a text with a line break or a control byte");
  }
  out->append(text);
  return Status::OK();
}

template <typename ArrayType>
auto ValueOf(const Array& array, int64_t i) {
  return static_cast<const ArrayType&>(array).Value(i);
}

int64_t SecondsOf(const arrow::TimestampArray& array, int64_t i) {
  static constexpr int64_t kPerSecond[] = {1, 1000, 1000000, 1000000000};
  const auto unit = static_cast<const arrow::TimestampType&>(*array.type()).unit();
  const int64_t per = kPerSecond[static_cast<int>(unit)], value = array.Value(i);
  return value / per - (value % per < 0 ? 1 : 0);
}

Status AppendValue(const Array& array, int64_t i, std::string* out);

template <typename ListType>
Status AppendList(const Array& array, int64_t i, std::string* out) {
  const auto& list = static_cast<const ListType&>(array);
  const int64_t begin = list.value_offset(i), n = list.value_length(i);
  for (int64_t k = 0; k < n; ++k) {
    if (k > 0) *out += columnar::kValueEnd;
    ARROW_RETURN_NOT_OK(AppendValue(*list.values(), begin + k, out));
  }
  return Status::OK();
}

// Nothing for null: an empty field is missing.
Status AppendValue(const Array& array, int64_t i, std::string* out) {
  if (array.IsNull(i)) return Status::OK();
  switch (array.type_id()) {
    case Type::BOOL: *out += ValueOf<arrow::BooleanArray>(array, i) ? '1' : '0'; return Status::OK();
    case Type::INT8: AppendNumber<int>(ValueOf<arrow::Int8Array>(array, i), out); return Status::OK();
    case Type::UINT8: AppendNumber<int>(ValueOf<arrow::UInt8Array>(array, i), out); return Status::OK();
    case Type::INT16: AppendNumber(ValueOf<arrow::Int16Array>(array, i), out); return Status::OK();
    case Type::UINT16: AppendNumber(ValueOf<arrow::UInt16Array>(array, i), out); return Status::OK();
    case Type::INT32: AppendNumber(ValueOf<arrow::Int32Array>(array, i), out); return Status::OK();
    case Type::UINT32: AppendNumber(ValueOf<arrow::UInt32Array>(array, i), out); return Status::OK();
    case Type::INT64: AppendNumber(ValueOf<arrow::Int64Array>(array, i), out); return Status::OK();
    case Type::UINT64: AppendNumber(ValueOf<arrow::UInt64Array>(array, i), out); return Status::OK();
    case Type::FLOAT: AppendNumber(ValueOf<arrow::FloatArray>(array, i), out); return Status::OK();
    case Type::DOUBLE: AppendNumber(ValueOf<arrow::DoubleArray>(array, i), out); return Status::OK();
    case Type::DATE32:
      AppendNumber(int64_t{86400} * ValueOf<arrow::Date32Array>(array, i), out);
      return Status::OK();
    case Type::TIMESTAMP:
      AppendNumber(SecondsOf(static_cast<const arrow::TimestampArray&>(array), i), out);
      return Status::OK();
    case Type::STRING:
    case Type::BINARY:
      return AppendText(static_cast<const arrow::BinaryArray&>(array).GetView(i), out);
    case Type::LARGE_STRING:
    case Type::LARGE_BINARY:
      return AppendText(static_cast<const arrow::LargeBinaryArray&>(array).GetView(i), out);
    case Type::FIXED_SIZE_BINARY:
      return AppendText(static_cast<const arrow::FixedSizeBinaryArray&>(array).GetView(i), out);
    case Type::DECIMAL128:
      return AppendText(static_cast<const arrow::Decimal128Array&>(array).FormatValue(i), out);
    case Type::DICTIONARY: {
      const auto& d = static_cast<const arrow::DictionaryArray&>(array);
      return AppendValue(*d.dictionary(), d.GetValueIndex(i), out);
    }
    case Type::LIST: return AppendList<arrow::ListArray>(array, i, out);
    case Type::LARGE_LIST: return AppendList<arrow::LargeListArray>(array, i, out);
    default: return Status::Invalid("is of type ", array.type()->ToString(), ", which is not read");
  }
}

// The leaves of one column.
void AddLeaves(const parquet::arrow::SchemaField& field, std::vector<int>* leaves) {
  if (field.column_index >= 0) leaves->push_back(field.column_index);
  for (const auto& child : field.children) AddLeaves(child, leaves);
}

Status WriteAll(std::string* text) {
  for (size_t at = 0; at < text->size();) {
    const ssize_t n = write(STDOUT_FILENO, text->data() + at, text->size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::IOError("the reader has gone");
    at += static_cast<size_t>(n);
  }
  text->clear();
  return Status::OK();
}

Status Write(const arrow::RecordBatch& batch, const std::vector<int>& order, int64_t first_row,
             std::string* text) {
  for (int64_t r = 0; r < batch.num_rows(); ++r) {
    for (size_t c = 0; c < order.size(); ++c) {
      if (c > 0) *text += columnar::kFieldEnd;
      const Status s = AppendValue(*batch.column(order[c]), r, text);
      if (!s.ok()) {
        return Status::Invalid("row ", first_row + r + 1, ": column \"", batch.column_name(order[c]),
                               "\": ", s.message());
      }
    }
    *text += '\n';
    if (text->size() >= (256 << 10)) ARROW_RETURN_NOT_OK(WriteAll(text));
  }
  return Status::OK();
}

Status Run(const std::string& path, const std::vector<std::string>& columns) {
  ARROW_ASSIGN_OR_RAISE(auto file, arrow::io::ReadableFile::Open(path));
  ARROW_ASSIGN_OR_RAISE(auto reader, parquet::arrow::OpenFile(file, arrow::default_memory_pool()));
  reader->set_batch_size(8192);
  std::shared_ptr<arrow::Schema> schema;
  ARROW_RETURN_NOT_OK(reader->GetSchema(&schema));
  std::vector<int> leaves;
  for (const std::string& name : columns) {
    const std::vector<int> found = schema->GetAllFieldIndices(name);
    if (found.size() == 1) {
      AddLeaves(reader->manifest().schema_fields[static_cast<size_t>(found[0])], &leaves);
      continue;
    }
    std::string names;
    for (const std::string& n : schema->field_names()) names += (names.empty() ? "" : ", ") + n;
    return Status::Invalid(found.empty() ? "no" : "more than one", " column \"", name, "\"; there are ", names);
  }
  std::vector<int> groups(static_cast<size_t>(reader->num_row_groups()));
  for (size_t g = 0; g < groups.size(); ++g) groups[g] = static_cast<int>(g);
  ARROW_ASSIGN_OR_RAISE(auto batches, reader->GetRecordBatchReader(groups, leaves));
  std::vector<int> order;
  for (const std::string& name : columns) order.push_back(batches->schema()->GetFieldIndex(name));
  std::string text;
  int64_t rows = 0;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    ARROW_RETURN_NOT_OK(batches->ReadNext(&batch));
    if (batch == nullptr) return WriteAll(&text);
    ARROW_RETURN_NOT_OK(Write(*batch, order, rows, &text));
    rows += batch->num_rows();
  }
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: tidegate-parquet FILE COLUMN...\n";
    return 2;
  }
  arrow::Status status = arrow::Status::OK();
  try {
    status = tidegate::Run(argv[1], {argv + 2, argv + argc});
  } catch (const std::exception& e) {
    status = arrow::Status::IOError(e.what());
  }
  if (status.ok()) return 0;
  std::cerr << status.message() << "\n";
  return 1;
}
