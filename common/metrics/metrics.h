#pragma once
// Prometheus metrics of a process. Cores keep plain counters; a source turns them into metrics when a page
// is asked for, so that nothing is counted twice and hot paths know no metrics library. Names end in their
// unit (_total, _bytes, _seconds); docs/operations.md lists them. Thread-safe.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/metrics/http_server.h"

namespace tidegate {

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

// One page being written.
class MetricsPage {
 public:
  virtual ~MetricsPage() = default;
  virtual void Counter(const std::string& name, const std::string& help, double value,
                       const MetricLabels& labels = {}) = 0;
  virtual void Gauge(const std::string& name, const std::string& help, double value,
                     const MetricLabels& labels = {}) = 0;
  // counts[i] values were at most upper_bounds[i] and above the bound before; counts has one more for
  // those above the last bound. `sum` of the values.
  virtual void Histogram(const std::string& name, const std::string& help,
                         std::span<const double> upper_bounds, std::span<const uint64_t> counts,
                         double sum, const MetricLabels& labels = {}) = 0;
};

class MetricsRegistry {
 public:
  // With the process's own: CPU seconds, resident memory, start time, build information.
  explicit MetricsRegistry(const std::string& role);
  ~MetricsRegistry();

  // Called for every page, from the thread that asks; must not block for long.
  void AddSource(std::function<void(MetricsPage&)> source);
  // The page in Prometheus' text format.
  std::string Text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Serves /metrics.
class MetricsServer {
 public:
  // Port 0: any free one. UNAVAILABLE when the port is taken: names --metrics_port.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const MetricsRegistry* registry,
                                                              const std::string& host, int port);
  ~MetricsServer();
  int port() const { return http_->port(); }
  std::string url() const { return http_->url() + "/metrics"; }

 private:
  explicit MetricsServer(std::unique_ptr<HttpServer> http);
  std::unique_ptr<HttpServer> http_;
};

}  // namespace tidegate
