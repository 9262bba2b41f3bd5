#pragma once
// Small read-only pages over HTTP, on two threads of its own: metrics, status. Anything else is a 404
// page, other methods than GET and HEAD too. Thread-safe.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tidegate {

struct HttpPage {
  std::string path;          // "/metrics"
  std::string content_type;
  std::function<std::string()> body;  // called from the server's thread, for each request
};

class HttpServer {
 public:
  // Port 0: any free one. UNAVAILABLE when it cannot be listened at: names `flag` ("--http_port").
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& flag, const std::string& host, int port,
                                                           std::vector<HttpPage> pages);
  ~HttpServer();
  int port() const { return port_; }
  const std::string& url() const { return url_; }  // "http://127.0.0.1:8080"

 private:
  struct Impl;
  HttpServer(std::unique_ptr<Impl> impl, int port, std::string url);

  std::unique_ptr<Impl> impl_;
  int port_;
  std::string url_;
};

}  // namespace tidegate
