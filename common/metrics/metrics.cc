#include "common/metrics/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <limits>
#include <mutex>

namespace tidegate {
namespace {

class Page final : public MetricsPage {
 public:
  void Counter(const std::string& name, const std::string& help, double value,
               const MetricLabels& labels) override {
    Add(name, help, prometheus::MetricType::Counter, labels).counter.value = value;
  }
  void Gauge(const std::string& name, const std::string& help, double value,
             const MetricLabels& labels) override {
    Add(name, help, prometheus::MetricType::Gauge, labels).gauge.value = value;
  }
  void Histogram(const std::string& name, const std::string& help,
                 std::span<const double> upper_bounds, std::span<const uint64_t> counts,
                 double sum, const MetricLabels& labels) override {
    auto& histogram = Add(name, help, prometheus::MetricType::Histogram, labels).histogram;
    uint64_t cumulative = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      cumulative += counts[i];
      const double bound =
          i < upper_bounds.size() ? upper_bounds[i] : std::numeric_limits<double>::infinity();
      histogram.bucket.push_back({cumulative, bound});
    }
    histogram.sample_count = cumulative;
    histogram.sample_sum = sum;
  }

  std::string Text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  prometheus::ClientMetric& Add(const std::string& name, const std::string& help,
                                prometheus::MetricType type, const MetricLabels& labels) {
    auto family = std::find_if(families_.begin(), families_.end(),
                               [&](const auto& f) { return f.name == name; });
    if (family == families_.end()) {
      families_.push_back({name, help, type, {}});
      family = families_.end() - 1;
    }
    prometheus::ClientMetric& metric = family->metric.emplace_back();
    for (const auto& [key, value] : labels) metric.label.push_back({key, value});
    return metric;
  }

  std::vector<prometheus::MetricFamily> families_;
};

double Seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
}

double ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  unsigned long total = 0, resident = 0;
  const int n = std::fscanf(file, "%lu %lu", &total, &resident);
  std::fclose(file);
  return n == 2 ? static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace

struct MetricsRegistry::Impl {
  std::string role;
  double start_time = static_cast<double>(std::time(nullptr));
  mutable std::mutex mutex;
  std::vector<std::function<void(MetricsPage&)>> sources;
};

MetricsRegistry::MetricsRegistry(const std::string& role) : impl_(std::make_unique<Impl>()) {
  impl_->role = role;
}
MetricsRegistry::~MetricsRegistry() = default;

void MetricsRegistry::AddSource(std::function<void(MetricsPage&)> source) {
  std::lock_guard lock(impl_->mutex);
  impl_->sources.push_back(std::move(source));
}

std::string MetricsRegistry::Text() const {
  Page page;
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  page.Counter("process_cpu_seconds_total", "CPU time, user and system",
               Seconds(usage.ru_utime) + Seconds(usage.ru_stime), {});
  page.Gauge("process_resident_memory_bytes", "Resident memory", ResidentBytes(), {});
  page.Gauge("process_start_time_seconds", "Start, since the Unix epoch", impl_->start_time, {});
  page.Gauge("tidegate_up", "1, with the role of this process", 1, {{"role", impl_->role}});
  std::vector<std::function<void(MetricsPage&)>> sources;
  {
    std::lock_guard lock(impl_->mutex);
    sources = impl_->sources;
  }
  for (const auto& source : sources) source(page);
  return page.Text();
}

MetricsServer::MetricsServer(std::unique_ptr<HttpServer> http) : http_(std::move(http)) {}
MetricsServer::~MetricsServer() = default;

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const MetricsRegistry* registry,
                                                                    const std::string& host, int port) {
  auto http = HttpServer::Start("--metrics_port", host, port,
                                {{"/metrics", "text/plain; version=0.0.4; charset=utf-8", [registry] { return registry->Text(); }}});
  if (!http.ok()) return http.status();
  return std::unique_ptr<MetricsServer>(new MetricsServer(*std::move(http)));
}

}  // namespace tidegate
