#include "common/checkpoint/checkpoint_reader.h"

#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/checkpoint/shard_merge.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {

absl::Status CheckManifest(const CheckpointManifest& manifest, const std::string& directory) {
  const auto damaged = [&](const std::string& what) {
    return absl::DataLossError(absl::StrCat(directory, "/MANIFEST: ", what));
  };
  if (!std::has_single_bit(manifest.shards()) || manifest.shards() > 65536) {
    return damaged(absl::StrCat(manifest.shards(), " shards"));
  }
  for (int i = 0; i < manifest.tables_size(); ++i) {
    if (manifest.tables(i).id() != static_cast<uint32_t>(i)) {
      return damaged("table ids are not 0, 1, 2, ...");
    }
  }
  std::vector<bool> seen(manifest.shards());
  for (const CheckpointFile& file : manifest.files()) {
    if (file.name().empty() || file.name().find('/') != std::string::npos) {
      return damaged(absl::StrCat("\"", file.name(), "\" is no file name"));
    }
    if (file.shard() >= manifest.shards() || seen[file.shard()]) {
      return damaged(absl::StrCat("shard ", file.shard(), " is none, or there twice"));
    }
    seen[file.shard()] = true;
  }
  if (manifest.files_size() != static_cast<int>(manifest.shards())) {
    return damaged(absl::StrCat(manifest.files_size(), " files for ", manifest.shards(), " shards"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointReader> CheckpointReader::Open(FileSystem& files, const std::string& directory) {
  auto manifest = ReadManifest(files, directory);
  if (!manifest.ok()) return manifest.status();
  return OpenLink(files, directory, *std::move(manifest));
}

absl::StatusOr<CheckpointReader> CheckpointReader::OpenLink(FileSystem& files, const std::string& directory, CheckpointManifest manifest) {
  if (absl::Status s = CheckManifest(manifest, directory); !s.ok()) return s;
  for (const CheckpointFile& file : manifest.files()) {
    const std::string path = JoinPath(directory, file.name());
    auto size = files.Size(path);
    if (!size.ok()) {
      return absl::DataLossError(
          absl::StrCat("a file of the checkpoint is missing: ", size.status().message()));
    }
    if (*size != file.bytes()) {
      return absl::DataLossError(absl::StrCat(path, " has ", *size, " bytes, its manifest says ",
                                              file.bytes()));
    }
  }
  CheckpointReader reader(files, directory, std::move(manifest));
  reader.tables_.assign(reader.manifest_.tables().begin(), reader.manifest_.tables().end());
  reader.file_of_.resize(reader.manifest_.shards());
  for (int i = 0; i < reader.manifest_.files_size(); ++i) reader.file_of_[reader.manifest_.files(i).shard()] = i;
  if (reader.manifest_.base() != 0) {
    auto base = OpenBase(files, directory, reader.manifest_);
    if (!base.ok()) return base.status();
    reader.base_ = *std::move(base);
  }
  return reader;
}

absl::StatusOr<std::shared_ptr<const CheckpointReader>> CheckpointReader::OpenBase(FileSystem& files, const std::string& directory,
                                                                                   const CheckpointManifest& manifest) {
  const auto folder = BaseFolder(directory, manifest);
  if (!folder.ok()) return folder.status();
  const auto broken = [&](std::string_view why) {
    return absl::DataLossError(absl::StrCat(directory, " builds on ", *folder, ": ", std::string(why)));
  };
  auto base = ReadManifest(files, *folder);
  if (!base.ok()) return broken(std::string(base.status().message()));
  const auto checksum = ManifestChecksum(files, *folder);
  if (!checksum.ok()) return broken(std::string(checksum.status().message()));
  bool same = base->number() == manifest.base() && *checksum == manifest.base_manifest_xxh3() && base->shards() == manifest.shards() &&
              base->tables_size() == manifest.tables_size();
  for (int i = 0; same && i < base->tables_size(); ++i) {
    same = base->tables(i).SerializeAsString() == manifest.tables(i).SerializeAsString();
  }
  if (!same) return broken(absl::StrCat("its MANIFEST is not the one of checkpoint ", manifest.base(), " that was there"));
  auto reader = OpenLink(files, *folder, *std::move(base));
  if (!reader.ok()) return broken(std::string(reader.status().message()));
  return std::make_shared<const CheckpointReader>(*std::move(reader));
}

absl::StatusOr<ShardFile> CheckpointReader::ReadOwn(int index) const {
  const CheckpointFile& expected = manifest_.files(index);
  const std::string path = JoinPath(directory_, expected.name());
  auto bytes = files_->Read(path, expected.bytes());
  if (!bytes.ok()) return bytes.status();
  if (bytes->size() != expected.bytes() || StableHash(*bytes) != expected.xxh3()) {
    return absl::DataLossError(
        absl::StrCat(path, " is damaged: its checksum is not that of the manifest"));
  }
  auto file = ShardFile::Parse(*std::move(bytes), tables_, path);
  if (!file.ok()) return file.status();
  if (file->header().shard() != expected.shard() || file->header().shards() != manifest_.shards()) {
    return absl::DataLossError(absl::StrCat(path, " is of shard ", file->header().shard(), " of ",
                                            file->header().shards(), ", not ", expected.shard()));
  }
  return file;
}

absl::StatusOr<ShardFile> CheckpointReader::Read(int index) const {
  // Newest first, until one is full.
  std::vector<ShardFile> chain;
  const uint32_t shard = manifest_.files(index).shard();
  for (const CheckpointReader* link = this;; link = link->base_.get()) {
    auto file = link->ReadOwn(link->file_of_[shard]);
    if (!file.ok()) return file.status();
    chain.push_back(*std::move(file));
    if (!chain.back().incremental()) break;
    if (link->base_ == nullptr) {
      return absl::DataLossError(absl::StrCat(chain.back().name(), " is damaged: it is incremental, and its manifest names no base"));
    }
  }
  ShardFile merged = std::move(chain.back());
  chain.pop_back();
  for (; !chain.empty(); chain.pop_back()) {
    auto next = MergeShardFiles(merged, chain.back(), tables_);
    if (!next.ok()) return next.status();
    merged = *std::move(next);
  }
  return merged;
}

absl::Status CheckpointReader::VisitAllRows(
    const std::function<void(TableId, Key, std::span<const float>)>& visit) const {
  for (int f = 0; f < manifest_.files_size(); ++f) {
    auto file = Read(f);
    if (!file.ok()) return file.status();
    for (int s = 0; s < file->header().sections_size(); ++s) {
      const TableId table = file->header().sections(s).table();
      absl::Status status = VisitRows(
          *file, static_cast<size_t>(s), tables_[table],
          [&](Key key, std::span<const float> values) { visit(table, key, values); });
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace tidegate
