#include "server/checkpoint/cut_writer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/checkpoint/shard_writer.h"

namespace tidegate {
namespace {

constexpr size_t kChunkBytes = 256 << 10;

// Where a shard's cut is at one visit.
struct View {
  bool armed = false;
  bool open = false;
  ShardCut* cut = nullptr;
  uint32_t local = 0;
};

View ViewOf(ShardGroup& group, ShardId shard, uint64_t number) {
  View view;
  view.cut = &group.cut();
  view.armed = view.cut->IsArmed(number);
  view.open = view.cut->IsOpen(number);
  const auto shards = group.shards();
  view.local = static_cast<uint32_t>(std::find(shards.begin(), shards.end(), shard) - shards.begin());
  return view;
}

class Writer {
 public:
  Writer(uint64_t number, const CutSource& source) : number_(number), source_(source) {}

  absl::StatusOr<ShardImage> Take(ShardId shard) {
    ShardImage image;
    std::vector<uint32_t> row_bytes;
    if (absl::Status s = WaitForCut(shard, &image, &row_bytes); !s.ok()) return s;
    for (TableId table = 0; table < row_bytes.size(); ++table) {
      std::string& bytes = image.sections.emplace_back();
      uint64_t rows = 0;
      std::vector<Key> removed;
      if (absl::Status s = TakeTable(shard, table, &bytes, &rows, &removed); !s.ok()) return s;
      ShardSection* section = image.header.add_sections();
      section->set_table(table);
      section->set_rows(rows);
      section->set_row_bytes(row_bytes[table]);
      section->set_bytes(bytes.size());
      section->set_removed(removed.size());
      bytes.append(reinterpret_cast<const char*>(removed.data()), removed.size() * sizeof(Key));
    }
    return image;
  }

 private:
  absl::Status Visit(ShardId shard, const std::function<void(const View&, ShardGroup&)>& work) {
    bool lost = false;
    absl::Status status = source_.visit(shard, [&](ShardGroup& group) {
      const View view = ViewOf(group, shard, number_);
      lost = !view.armed && !view.open;
      if (!lost) work(view, group);
    });
    if (status.ok() && lost) {
      status = absl::FailedPreconditionError(
          absl::StrCat("checkpoint ", number_, " was given up: another one took its place"));
    }
    return status;
  }

  absl::Status WaitForCut(ShardId shard, ShardImage* image, std::vector<uint32_t>* row_bytes) {
    for (;;) {
      bool open = false;
      absl::Status status = Visit(shard, [&](const View& view, ShardGroup& group) {
        open = view.open;
        if (!open) return;
        image->header = view.cut->Header(view.local);
        image->incremental = view.cut->IsIncremental(view.local);
        for (TableId id = 0; id < group.tables(); ++id) {
          row_bytes->push_back(group.table(id).layout().row_bytes());
        }
      });
      if (!status.ok() || open) return status;
      if (!source_.wait()) return absl::CancelledError("the job has ended");
    }
  }

  absl::Status TakeTable(ShardId shard, TableId table, std::string* bytes, uint64_t* rows, std::vector<Key>* removed) {
    std::vector<Key> keys;
    absl::Status status = Visit(shard, [&](const View& view, ShardGroup&) {
      *removed = view.cut->TakeRemoved(view.local, table);
      keys = view.cut->ListKeys(view.local, table);
    });
    if (!status.ok()) return status;
    for (std::vector<Key>* list : {&keys, removed}) {
      std::sort(list->begin(), list->end());
      list->erase(std::unique(list->begin(), list->end()), list->end());
    }
    status = Visit(shard, [&](const View& view, ShardGroup&) {
      view.cut->SetOrder(view.local, table, std::move(keys));
    });
    for (bool more = true; status.ok() && more;) {
      status = Visit(shard, [&](const View& view, ShardGroup&) {
        more = view.cut->Next(view.local, table, kChunkBytes, bytes, rows);
      });
    }
    return status;
  }

  const uint64_t number_;
  const CutSource& source_;
};

}  // namespace

absl::StatusOr<std::vector<CheckpointFile>> WriteCut(FileSystem& files, const std::string& directory,
                                                     uint64_t number, const CutSource& source) {
  Writer writer(number, source);
  std::vector<CheckpointFile> out;
  for (ShardId shard : source.shards) {
    auto image = writer.Take(shard);
    if (!image.ok()) return image.status();
    auto file = WriteShardImage(files, directory, *image);
    if (!file.ok()) return file.status();
    file->set_clock(std::max(image->header.clock(), image->header.highest_clock()));
    out.push_back(*std::move(file));
  }
  return out;
}

}  // namespace tidegate
