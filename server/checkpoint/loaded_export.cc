#include "server/checkpoint/loaded_export.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace tidegate {

absl::StatusOr<LoadedExport> LoadedExport::Load(FileSystem& files, const std::string& directory) {
  auto reader = ExportReader::Open(files, directory);
  if (!reader.ok()) return reader.status();
  LoadedExport out(*std::move(reader));
  for (const TableSpec& spec : out.spec().tables()) {
    auto layout = RowLayout::Create(spec);
    if (!layout.ok()) return absl::DataLossError(absl::StrCat(directory, "/", kExportSpecName, ": ", layout.status().message()));
    out.layouts_.push_back(*std::move(layout));
  }
  return out;
}

void LoadedExport::SparseRow(TableId table, Key key, float* row) const {
  const RowLayout& layout = layouts_[table];
  if (const std::optional<size_t> at = reader_.Find(table, key)) {
    for (size_t p = 0; p < layout.parts().size(); ++p) {
      const uint32_t dim = layout.parts()[p].dim;
      row = std::copy_n(reader_.values(table, p).data() + *at * dim, dim, row);
    }
    return;
  }
  const bool initial = layout.admits_at_once() || layout.unadmitted() == INITIALIZER;
  if (initial) return layout.InitialValues(key, row);
  const bool zero = layout.unadmitted() == ZERO;  // else the mark of a key to be looked up as out of vocabulary
  std::fill_n(row, layout.width(), zero ? 0.0f : std::numeric_limits<float>::quiet_NaN());
}

void LoadedExport::DenseRow(TableId table, Key key, float* row) const {
  const std::span<const float> tensor = reader_.values(table, 0);
  const size_t width = layouts_[table].width();
  const size_t begin = std::min(static_cast<size_t>(key) * width, tensor.size());
  const size_t count = std::min(width, tensor.size() - begin);
  std::copy_n(tensor.data() + begin, count, row);
  std::fill_n(row + count, width - count, 0.0f);
}

absl::Status LoadedExport::Gather(TableId table, std::span<const Key> keys, std::span<float> rows) const {
  if (table >= layouts_.size()) return absl::NotFoundError(absl::StrCat("the export has no table ", table));
  const RowLayout& layout = layouts_[table];
  if (absl::Status s = layout.CheckKeys(PackedSpan<Key>(keys.data(), keys.size())); !s.ok()) return s;
  if (rows.size() != keys.size() * layout.width()) {
    return absl::InvalidArgumentError(absl::StrCat(rows.size(), " floats for ", keys.size(), " rows of ", layout.width()));
  }
  for (size_t k = 0; k < keys.size(); ++k) {
    float* row = rows.data() + k * layout.width();
    layout.dense() ? DenseRow(table, keys[k], row) : SparseRow(table, keys[k], row);
  }
  return absl::OkStatus();
}

}  // namespace tidegate
