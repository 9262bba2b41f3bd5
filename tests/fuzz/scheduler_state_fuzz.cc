// The scheduler's state from anywhere: scheduler.state as it is, and with a head and a checksum that fit; as etcd's
// value; what loads goes to the core.
#include <string>

#include "common/logging.h"
#include "common/stable_hash.h"
#include "scheduler/cluster_state.h"
#include "scheduler/store/state_codec.h"
#include "scheduler/store/state_store.h"
#include "tests/fakes/fake_file_system.h"
#include "tests/fuzz/fuzz_target.h"

namespace tidegate {
namespace {

constexpr char kFile[] = "state/scheduler.state";

SchedulerOptions OptionsOf(bool synchronous) {
  SchedulerOptions options;
  options.synchronous = synchronous;
  options.config_fingerprint = 7;
  options.job.set_name("fuzz");
  for (uint64_t begin : {0, 10, 20}) {
    Split split;
    split.set_begin(begin);
    split.set_end(begin + 10);
    options.train_splits.push_back(split);
  }
  return options;
}

// What a scheduler stores that two servers and a worker have joined.
SchedulerState StateOf(bool synchronous) {
  auto core = ClusterState::Create(OptionsOf(synchronous), {});
  TG_CHECK(core.ok());
  (*core)->Start(0);
  for (uint64_t nonce : {1, 2, 3}) {
    JoinRequest join;
    join.set_role(nonce == 3 ? WORKER : SERVER);
    join.set_address("127.0.0.1:1");
    join.set_nonce(nonce);
    (*core)->Handle(1, nonce, join);
  }
  return (*core)->Durable();
}

void LoadFrom(const std::string& bytes) {
  FakeFileSystem files;
  TG_CHECK(files.CreateDirectories("state").ok());
  TG_CHECK(files.WriteAtomically(kFile, bytes).ok());
  auto store = DirectoryStore::Open(&files, "state");
  TG_CHECK(store.ok());
  auto state = (*store)->Load();
  if (!state.ok()) return;
  for (bool synchronous : {true, false}) (void)ClusterState::Create(OptionsOf(synchronous), *state);
}

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  tidegate::LoadFrom(bytes);
  const uint64_t checksum = tidegate::StableHash(bytes);
  (void)tidegate::DecompressState(bytes, "fuzz");
  (void)tidegate::DecompressState("TGSTATZ1" + bytes, "fuzz");
  tidegate::LoadFrom("TGSTATE1" + bytes + std::string(reinterpret_cast<const char*>(&checksum), sizeof(checksum)));
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  std::vector<std::string> seeds;
  for (bool synchronous : {true, false}) {
    tidegate::FakeFileSystem files;
    auto store = tidegate::DirectoryStore::Open(&files, "state");
    TG_CHECK(store.ok());
    const tidegate::SchedulerState state = tidegate::StateOf(synchronous);
    TG_CHECK((*store)->Store(state).ok());
    seeds.push_back(*files.Read(tidegate::kFile, 1 << 20));
    seeds.push_back(state.SerializeAsString());
    seeds.push_back(tidegate::CompressState(state));
  }
  return seeds;
}
