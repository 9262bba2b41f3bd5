#pragma once
// Throughput and loss over the life of a job, for the page's curves: a bounded number of points, which
// stand further apart the longer the job takes. A core; not thread-safe.

#include <optional>
#include <string>
#include <vector>

#include "common/types.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate {

class StatusHistory {
 public:
  explicit StatusHistory(size_t points_max = 600) : points_max_(points_max) {}

  // A status is wanted: it costs something where members are many.
  bool Due(TimeMs now) const { return !asked_at_ || now - *asked_at_ >= interval_ms_; }
  // Kept where it is due and the job trains.
  void Add(TimeMs now, const GetStatusResponse& status);

  // [{"t": seconds, "samples_per_second": ..., "loss": ...}, ...]
  std::string Json() const;
  size_t size() const { return points_.size(); }

 private:
  struct Point {
    TimeMs at;
    double samples_per_second;
    double loss;
  };
  const size_t points_max_;
  TimeMs interval_ms_ = 1000;
  std::optional<TimeMs> asked_at_;
  std::vector<Point> points_;
};

}  // namespace tidegate
