#include "server/rpc/shard_engine.h"

#include <algorithm>
#include <condition_variable>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "server/rpc/shard_engine_lane.h"

namespace tidegate {

ShardEngine::ShardEngine(const Options& options)
    : options_(options), budget_(options.memory_limit_bytes) {
  TG_CHECK(options.strands >= 1 && options.strands <= kMaxStrands) << options.strands;
  for (int i = 0; i < options.strands; ++i) lanes_.push_back(std::make_unique<Lane>(i));
}

ShardEngine::~ShardEngine() { StopMail(); }

std::shared_ptr<const ShardEngine::View> ShardEngine::view() const {
  std::lock_guard lock(mutex_);
  return view_;
}

void ShardEngine::Publish(std::shared_ptr<const View> view) {
  std::lock_guard lock(mutex_);
  view_ = std::move(view);
}

void ShardEngine::OnEveryLane(const std::function<void(Lane&)>& work) { OnLanes(~uint64_t{0}, work); }

void ShardEngine::OnLanes(uint64_t lanes, const std::function<void(Lane&)>& work) {
  struct Wait {
    std::mutex mutex;
    std::condition_variable all_done;
    size_t left;
  };
  auto wait = std::make_shared<Wait>();
  wait->left = static_cast<size_t>(
      std::count_if(lanes_.begin(), lanes_.end(), [lanes](const auto& l) { return (l->bit() & lanes) != 0; }));
  for (const auto& lane : lanes_) {
    if ((lane->bit() & lanes) == 0) continue;
    lane->strand.Run([this, &work, wait, lane = lane.get()] {
      Prepare(*lane);
      work(*lane);
      Deliver(*lane);
      std::lock_guard lock(wait->mutex);
      if (--wait->left == 0) wait->all_done.notify_one();
    });
  }
  std::unique_lock lock(wait->mutex);
  wait->all_done.wait(lock, [&] { return wait->left == 0; });
}

void ShardEngine::Configure(const JobOptions& job) {
  TG_CHECK(view() == nullptr) << "configured twice";
  job_ = job;
  OnEveryLane([this](Lane& lane) {
    ShardGroup::Options options;
    options.synchronous = job_.synchronous;
    options.drop_slowest = job_.drop_slowest;
    options.staleness = job_.staleness;
    options.generation = job_.generation;
    options.schedule = job_.schedule;
    options.budget = &budget_;
    options.self = job_.incarnation;
    options.durable = job_.durable;
    options.log_touched = job_.log_touched;
    options.log_window_records = job_.log_window_records;
    RowSink* const sink = this;
    lane.group = std::make_unique<ShardGroup>(options, sink);
  });
  for (const auto& lane : lanes_) lane->mail_thread = std::thread(RunMail, this, lane.get());
  Publish(std::make_shared<View>());
}

absl::Status ShardEngine::SetRouting(const Routing& routing, TimeMs serves_from) {
  const auto old = view();
  if (routing.epoch() <= old->epoch) return absl::OkStatus();
  auto next = std::make_shared<View>(*old);
  next->epoch = routing.epoch();
  next->shards = routing.shards();
  next->log2_shards = routing.log2_shards();
  next->own = routing.ReplicasOf(job_.incarnation);
  next->led = routing.ShardsOf(job_.incarnation);
  next->routing = std::make_shared<Routing>(routing);
  // A shard keeps its strand for life; new ones go to the strand that has the fewest.
  next->lane_of_shard.assign(routing.shards(), 0);
  std::vector<std::vector<ShardId>> of_lane(lanes_.size());
  const bool same_space = old->shards == routing.shards();
  std::vector<ShardId> fresh;
  for (ShardId shard : next->own) {
    if (same_space && std::binary_search(old->own.begin(), old->own.end(), shard)) {
      of_lane[old->lane_of_shard[shard]].push_back(shard);
    } else {
      fresh.push_back(shard);
    }
  }
  for (ShardId shard : fresh) {
    auto fewest = std::min_element(of_lane.begin(), of_lane.end(), [](const auto& a, const auto& b) {
      return a.size() < b.size();
    });
    fewest->push_back(shard);
  }
  for (size_t i = 0; i < of_lane.size(); ++i) {
    std::sort(of_lane[i].begin(), of_lane[i].end());
    for (ShardId shard : of_lane[i]) next->lane_of_shard[shard] = static_cast<uint8_t>(i);
  }
  std::vector<absl::Status> statuses(lanes_.size());
  OnEveryLane([&](Lane& lane) {
    statuses[lane.index] = lane.group->SetRouting(routing, of_lane[lane.index], serves_from, &lane.effects);
  });
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  Publish(std::move(next));
  return absl::OkStatus();
}

absl::Status ShardEngine::OpenTables(std::span<const TableSpec> specs,
                                     const std::function<absl::Status()>& fill) {
  auto catalog = TableCatalog::FromSpecs(specs);
  if (!catalog.ok()) return catalog.status();
  std::vector<absl::Status> statuses(lanes_.size());
  OnEveryLane([&](Lane& lane) { statuses[lane.index] = lane.group->OpenTables(*catalog); });
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  if (fill) {
    if (absl::Status s = fill(); !s.ok()) return s;
  }
  auto next = std::make_shared<View>(*view());
  next->catalog = *std::move(catalog);
  Publish(std::move(next));
  return absl::OkStatus();
}

void ShardEngine::SetWorkers(const WorkerSet& workers) {
  OnEveryLane([&](Lane& lane) { lane.group->SetWorkers(workers, &lane.effects); });
}

void ShardEngine::SetLearningRateScale(float scale) {
  OnEveryLane([&](Lane& lane) { lane.group->SetLearningRateScale(scale); });
}

void ShardEngine::Sweep(Clock clock) {
  OnEveryLane([&](Lane& lane) { lane.group->Sweep(clock, &lane.effects); });
}

void ShardEngine::ArmCut(uint64_t number, Clock clock, uint64_t base) {
  OnEveryLane([&](Lane& lane) { lane.group->ArmCut(number, clock, base); });
}

void ShardEngine::DropCut(uint64_t number) {
  OnEveryLane([&](Lane& lane) { lane.group->cut().Drop(number); });
}

void ShardEngine::Resume(Clock clock, float learning_rate_scale) {
  OnEveryLane([&](Lane& lane) { lane.group->Resume(clock, learning_rate_scale); });
}

absl::Status ShardEngine::VisitShard(ShardId shard, const std::function<void(ShardGroup&)>& visit) {
  const auto current = view();
  if (!std::binary_search(current->own.begin(), current->own.end(), shard)) {
    return absl::NotFoundError(absl::StrCat("shard ", shard, " is not of this server"));
  }
  OnLanes(lanes_[current->lane_of_shard[shard]]->bit(), [&](Lane& lane) { visit(*lane.group); });
  return absl::OkStatus();
}

std::vector<ShardId> ShardEngine::shards() const {
  const auto current = view();
  return current == nullptr ? std::vector<ShardId>() : current->own;
}

std::vector<ShardId> ShardEngine::led_shards() const {
  const auto current = view();
  return current == nullptr ? std::vector<ShardId>() : current->led;
}

std::shared_ptr<const Routing> ShardEngine::routing() const {
  const auto current = view();
  return current == nullptr ? nullptr : current->routing;
}

uint32_t ShardEngine::total_shards() const {
  const auto current = view();
  return current == nullptr ? 0 : current->shards;
}

}  // namespace tidegate
