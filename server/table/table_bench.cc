#include "server/table/table_bench.h"

#include <time.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <vector>

#include "common/logging.h"
#include "common/random.h"
#include "server/table/memory_block.h"
#include "server/table/row_layout.h"
#include "server/table/table_group.h"

namespace tidegate {
namespace {

constexpr size_t kBatch = 8192;        // keys, as a worker's message
constexpr size_t kKeysPerTurn = 1 << 20;
constexpr size_t kCeilingAhead = 16;

// CPU time of this thread: what other programs take does not count.
double CpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What is timed: called once per turn, gives back seconds for kKeysPerTurn keys.
template <typename Work>
double Turn(const Work& work) {
  const double start = CpuSeconds();
  for (size_t begin = 0; begin + kBatch <= kKeysPerTurn; begin += kBatch) work(begin);
  return CpuSeconds() - start;
}

// The bare array: the ceiling.
class Array {
 public:
  Array(uint64_t rows, uint32_t width, bool state)
      : rows_(rows), width_(width), stride_(width * (state ? 2 : 1)), block_(rows * stride_ * 4),
        data_(reinterpret_cast<float*>(block_.data())) {
    for (uint64_t i = 0; i < rows * stride_; i += 512) data_[i] = 1;  // every page is there
  }
  uint64_t rows() const { return rows_; }

  void Gather(const uint32_t* index, float* out) const {
    for (size_t i = 0; i < kBatch; ++i) {
      Prefetch<0>(index, i, width_);
      const float* row = data_ + size_t{index[i]} * stride_;
      for (uint32_t k = 0; k < width_; k += 8) std::memcpy(out + i * width_ + k, row + k, 32);
    }
  }
  void ScatterSgd(const uint32_t* index, const float* gradients) {
    for (size_t i = 0; i < kBatch; ++i) {
      Prefetch<1>(index, i, width_);
      float* row = data_ + size_t{index[i]} * stride_;
      const float* g = gradients + i * width_;
      for (uint32_t k = 0; k < width_; k += 8) {
        for (uint32_t lane = k; lane < k + 8; ++lane) row[lane] -= 0.01f * g[lane];
      }
    }
  }

 private:
  template <int kWrite>
  void Prefetch(const uint32_t* index, size_t i, uint32_t floats) const {
    if (i + kCeilingAhead >= kBatch) return;
    const float* row = data_ + size_t{index[i + kCeilingAhead]} * stride_;
    for (uint32_t k = 0; k < floats; k += 16) __builtin_prefetch(row + k, kWrite, 3);
  }

  uint64_t rows_;
  uint32_t width_, stride_;
  MemoryBlock block_;
  float* data_;
};

class Run {
 public:
  Run(const TableBenchOptions& options, uint32_t width,
      const std::function<void(const TableFigure&)>& report)
      : options_(options), report_(report), width_(width),
        keys_count_(std::max<uint64_t>(options.keys * 16 / width, kBatch)),
        keys_(kKeysPerTurn), index_(kKeysPerTurn), buffer_(kBatch * width, 0.01f) {
    Random random(width);
    for (size_t i = 0; i < kKeysPerTurn; ++i) {
      index_[i] = static_cast<uint32_t>(random.Below(keys_count_));
      keys_[i] = KeyOf(index_[i]);
    }
  }

  void Sgd() {
    const RowLayout layout = LayoutFor("sgd { lr: 0.01 }");
    TableGroup group = GroupOf(layout);
    Insert(&group);
    Array array(keys_count_, width_, false);
    Compare("gather", "pull", [&](size_t at) { array.Gather(index_.data() + at, buffer_.data()); },
            [&](size_t at) {
              group.Gather(KeysAt(at), {}, FLOAT32, {}, reinterpret_cast<std::byte*>(buffer_.data()));
            });
    std::fill(buffer_.begin(), buffer_.end(), 0.01f);
    Compare("scatter", "push_sgd",
            [&](size_t at) { array.ScatterSgd(index_.data() + at, buffer_.data()); },
            [&](size_t at) { group.Apply(BatchAt(at), {}); });
  }

  // Against the bare SGD scatter of rows as wide as value and state together.
  void AdaGrad() {
    const RowLayout layout = LayoutFor("adagrad { lr: 0.01 }");
    TableGroup group = GroupOf(layout);
    Fill(&group);
    Array array(keys_count_, 2 * width_, false);
    std::vector<float> wide(kBatch * 2 * width_, 0.01f);
    Compare("", "push_adagrad",
            [&](size_t at) { array.ScatterSgd(index_.data() + at, wide.data()); },
            [&](size_t at) { group.Apply(BatchAt(at), {}); });
    // As where incremental checkpoints are made.
    for (uint32_t shard = 0; shard < group.shards(); ++shard) group.shard(shard).TakeTouched();
    Compare("", "push_adagrad_logged",
            [&](size_t at) { array.ScatterSgd(index_.data() + at, wide.data()); },
            [&](size_t at) { group.Apply(BatchAt(at), {}); });
  }

 private:
  static Key KeyOf(uint64_t i) { return Mix64(i * 3 + 1); }
  PackedSpan<Key> KeysAt(size_t at) const { return {keys_.data() + at, kBatch}; }
  GradientBatch BatchAt(size_t at) const {
    GradientBatch batch;
    batch.keys = KeysAt(at);
    batch.values = std::as_bytes(std::span(buffer_));
    return batch;
  }
  RowLayout LayoutFor(const char* optimizer) const {
    TableSpec spec;
    spec.set_name("bench");
    PartSpec* part = spec.add_parts();
    part->set_name("v");
    part->set_dim(width_);
    if (optimizer[0] == 's') {
      part->mutable_optimizer()->mutable_sgd();
    } else {
      part->mutable_optimizer()->mutable_adagrad();
    }
    auto layout = RowLayout::Create(spec);
    TG_CHECK(layout.ok()) << layout.status().ToString();
    return *std::move(layout);
  }
  TableGroup GroupOf(const RowLayout& layout) const {
    std::vector<ShardId> shards(static_cast<size_t>(options_.shards));
    for (size_t i = 0; i < shards.size(); ++i) shards[i] = static_cast<ShardId>(i);
    return TableGroup(&layout, std::bit_width(shards.size()) - 1, shards);
  }

  double Fill(TableGroup* group) const {
    std::vector<Key> keys(kBatch);
    double seconds = 0;
    for (uint64_t begin = 0; begin < keys_count_; begin += kBatch) {
      const size_t count = std::min<uint64_t>(kBatch, keys_count_ - begin);
      for (size_t i = 0; i < count; ++i) keys[i] = KeyOf(begin + i);
      GradientBatch batch = BatchAt(0);
      batch.keys = PackedSpan<Key>(keys.data(), count);
      const double start = CpuSeconds();
      group->Apply(batch, {});
      seconds += CpuSeconds() - start;
    }
    return seconds;
  }
  void Insert(TableGroup* group) {
    const double seconds = Fill(group);
    Report("insert", seconds / static_cast<double>(keys_count_), 0);
  }

  template <typename Ceiling, typename Work>
  void Compare(const char* ceiling_name, const char* name, const Ceiling& ceiling, const Work& work) {
    std::vector<double> ceiling_seconds, seconds;
    for (int i = 0; i <= options_.repeats; ++i) {
      const double c = Turn(ceiling), w = Turn(work);
      if (i == 0) continue;  // warms up
      ceiling_seconds.push_back(c);
      seconds.push_back(w);
    }
    const double bare = Median(ceiling_seconds) / kKeysPerTurn;
    if (ceiling_name[0] != '\0') Report(std::string(ceiling_name) + "_array", bare, 0);
    Report(name, Median(seconds) / kKeysPerTurn, 1e-6 / bare);
  }

  void Report(const std::string& name, double seconds_per_row, double ceiling) const {
    report_({"table_" + name + "_dim" + std::to_string(width_), 1e-6 / seconds_per_row, "Mrows/s", ceiling,
             seconds_per_row * 1e6});
  }

  const TableBenchOptions& options_;
  const std::function<void(const TableFigure&)>& report_;
  uint32_t width_;
  uint64_t keys_count_;
  std::vector<Key> keys_;
  std::vector<uint32_t> index_;
  std::vector<float> buffer_;
};

}  // namespace

TableBenchOptions QuickTableBench() {
  TableBenchOptions options;
  options.keys = 2'000'000;
  options.repeats = 3;
  return options;
}

void BenchTable(const TableBenchOptions& options, const std::function<void(const TableFigure&)>& report) {
  TG_CHECK(options.shards > 0 && std::has_single_bit(static_cast<unsigned>(options.shards)))
      << "shards must be a power of two: " << options.shards;
  for (const uint32_t width : {16u, 64u}) {
    Run(options, width, report).Sgd();
    Run(options, width, report).AdaGrad();
  }
}

}  // namespace tidegate
