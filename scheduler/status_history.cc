#include "scheduler/status_history.h"

#include "common/status_json.h"

namespace tidegate {

void StatusHistory::Add(TimeMs now, const GetStatusResponse& status) {
  if (!Due(now)) return;
  asked_at_ = now;
  if (status.phase() != TRAINING || status.samples_total() == 0) return;
  points_.push_back({now, status.samples_per_second(), MeanLoss(status)});
  if (points_.size() < points_max_) return;
  for (size_t i = 0; 2 * i + 1 < points_.size(); ++i) points_[i] = points_[2 * i + 1];
  points_.resize(points_.size() / 2);
  interval_ms_ *= 2;
}

std::string StatusHistory::Json() const {
  std::vector<std::string> points;
  for (const Point& p : points_) {
    points.push_back(JsonObject()
                         .Number("t", static_cast<double>(p.at) / 1000)
                         .Number("samples_per_second", p.samples_per_second)
                         .Number("loss", p.loss)
                         .Build());
  }
  return JsonArray(points);
}

}  // namespace tidegate
