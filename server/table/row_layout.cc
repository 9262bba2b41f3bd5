#include "server/table/row_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/random.h"
#include "server/table/value_codec.h"

namespace tidegate {
namespace {

constexpr uint64_t kRowBytesMax = uint64_t{16} << 20;

absl::Status Invalid(const TableSpec& spec, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("table \"", spec.name(), "\": ", what));
}

absl::Status CheckDense(const TableSpec& spec, uint64_t* blocks) {
  if (spec.parts_size() != 1) return Invalid(spec, "a dense table has exactly one part");
  if (spec.has_admission() || spec.has_eviction()) {
    return Invalid(spec, "admission and eviction are for sparse tables");
  }
  if (spec.shape_size() == 0) return Invalid(spec, "a dense table needs its shape");
  unsigned __int128 elements = 1;
  for (const uint64_t extent : spec.shape()) {
    elements *= extent;
    if (extent == 0 || elements > std::numeric_limits<int64_t>::max()) {
      return Invalid(spec, "shape has an extent of 0, or more than 2^63 elements");
    }
  }
  const uint64_t dim = spec.parts(0).dim();
  *blocks = dim == 0 ? 0 : (static_cast<uint64_t>(elements) + dim - 1) / dim;
  return absl::OkStatus();
}

float InitialValue(Initializer::KindCase kind, float scale, uint64_t row_seed, uint64_t element) {
  switch (kind) {
    case Initializer::kConstant:
      return scale;
    case Initializer::kNormal:
      return static_cast<float>(scale * ToNormal(RandomBits(row_seed, 2 * element),
                                                 RandomBits(row_seed, 2 * element + 1)));
    case Initializer::kUniform:
      return static_cast<float>(scale * (2 * ToUnit(RandomBits(row_seed, 2 * element)) - 1));
    case Initializer::KIND_NOT_SET:
      break;
  }
  return 0;
}

absl::Status ReadInitializer(const TableSpec& spec, const PartSpec& part, RowLayout::Part* out) {
  const Initializer& init = part.init();
  out->init_kind = init.kind_case();
  switch (init.kind_case()) {
    case Initializer::kConstant: out->init = init.constant(); break;
    case Initializer::kNormal: out->init = init.normal(); break;
    case Initializer::kUniform: out->init = init.uniform(); break;
    case Initializer::KIND_NOT_SET: break;
  }
  const bool width = out->init_kind == Initializer::kNormal || out->init_kind == Initializer::kUniform;
  if (!std::isfinite(out->init) || (width && out->init < 0)) {
    return Invalid(spec, absl::StrCat("part \"", part.name(), "\": init is ", out->init,
                                      "; it must be finite, and >= 0 for normal and uniform"));
  }
  if (out->init == 0) out->init_kind = Initializer::KIND_NOT_SET;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RowLayout> RowLayout::Create(const TableSpec& spec) {
  RowLayout layout;
  layout.table_ = spec.id();
  layout.name_ = spec.name();
  layout.seed_ = spec.seed();
  layout.dense_ = spec.kind() == TableSpec::DENSE;
  if (spec.parts_size() == 0) return Invalid(spec, "no parts");
  if (layout.dense_) {
    if (absl::Status status = CheckDense(spec, &layout.dense_blocks_); !status.ok()) return status;
  }

  std::set<std::string> names;
  uint64_t width = 0;
  uint64_t offset = 0;
  layout.plain_float32_ = true;
  layout.all_zero_init_ = true;
  for (const PartSpec& part : spec.parts()) {
    if (!names.insert(part.name()).second) {
      return Invalid(spec, absl::StrCat("two parts are named \"", part.name(), "\""));
    }
    auto optimizer = PartOptimizer::Create(part);
    if (!optimizer.ok()) return Invalid(spec, std::string(optimizer.status().message()));
    Part made;
    made.name = part.name();
    made.dim = part.dim();
    made.first_element = static_cast<uint32_t>(width);
    made.bfloat16 = part.dtype() == BFLOAT16;
    made.value_offset = static_cast<uint32_t>(offset);
    made.optimizer = *std::move(optimizer);
    if (absl::Status status = ReadInitializer(spec, part, &made); !status.ok()) return status;
    width += part.dim();
    offset += made.bfloat16 ? (uint64_t{part.dim()} * 2 + 3) / 4 * 4 : uint64_t{part.dim()} * 4;
    if (offset > kRowBytesMax) return Invalid(spec, "a row has more than 16 MiB");
    layout.plain_float32_ &= !made.bfloat16 && !made.optimizer.decays();
    layout.decays_ |= made.optimizer.decays();
    layout.all_zero_init_ &= made.init_kind == Initializer::KIND_NOT_SET;
    layout.parts_.push_back(std::move(made));
  }
  for (Part& part : layout.parts_) {
    part.slot_offset = static_cast<uint32_t>(offset);
    offset += uint64_t{part.optimizer.slots()} * 4;
    if (offset > kRowBytesMax) return Invalid(spec, "a row with its optimizer state has more than 16 MiB");
  }
  layout.width_ = static_cast<uint32_t>(width);
  layout.row_bytes_ = static_cast<uint32_t>(offset + sizeof(RowHeader));
  layout.stride_ = (layout.data_bytes() + 15) & ~15u;

  if (spec.admission().rule_case() == Admission::kAfter) layout.admit_after_ = spec.admission().after();
  if (spec.admission().rule_case() == Admission::kProbability) {
    layout.admit_probability_ = spec.admission().probability();
    if (!(layout.admit_probability_ > 0 && layout.admit_probability_ <= 1)) {
      return Invalid(spec, "admission.probability must be in (0, 1]");
    }
  }
  layout.unadmitted_ = spec.unadmitted();
  layout.max_age_clocks_ = spec.eviction().max_age_clocks();
  layout.min_touches_per_clock_ = spec.eviction().min_touches_per_clock();
  if (!(std::isfinite(layout.min_touches_per_clock_) && layout.min_touches_per_clock_ >= 0)) {
    return Invalid(spec, "eviction.min_touches_per_clock must be finite and >= 0");
  }
  return layout;
}

absl::Status RowLayout::CheckKeys(PackedSpan<Key> keys) const {
  if (!dense_) return absl::OkStatus();
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] >= dense_blocks_) {
      return absl::InvalidArgumentError(absl::StrCat("dense table \"", name_, "\" has ", dense_blocks_,
                                                     " blocks; key ", keys[i], " names none"));
    }
  }
  return absl::OkStatus();
}

void RowLayout::InitialValues(Key key, float* out) const {
  if (all_zero_init_) {
    std::fill_n(out, width_, 0.0f);
    return;
  }
  const uint64_t row_seed = Mix64(seed_ ^ Mix64(key));
  for (const Part& part : parts_) {
    float* values = out + part.first_element;
    for (uint32_t i = 0; i < part.dim; ++i) {
      const float value = InitialValue(part.init_kind, part.init, row_seed, part.first_element + i);
      values[i] = part.bfloat16 ? FromBfloat16(ToBfloat16(value)) : value;
    }
  }
}

void RowLayout::InitializeRow(Key key, std::byte* row) const {
  float stack[256];
  std::vector<float> heap;
  float* values = stack;
  if (width_ > std::size(stack)) {
    heap.resize(width_);
    values = heap.data();
  }
  InitialValues(key, values);
  for (const Part& part : parts_) {
    const float* from = values + part.first_element;
    std::byte* to = row + part.value_offset;
    if (part.bfloat16) {
      if (part.dim % 2 == 1) std::memset(to + size_t{2} * part.dim, 0, 2);
      for (uint32_t i = 0; i < part.dim; ++i) {
        const uint16_t bits = ToBfloat16(from[i]);
        std::memcpy(to + size_t{2} * i, &bits, 2);
      }
    } else {
      std::memcpy(to, from, size_t{4} * part.dim);
    }
    part.optimizer.InitializeSlots(from, reinterpret_cast<float*>(row + part.slot_offset));
  }
}

}  // namespace tidegate
