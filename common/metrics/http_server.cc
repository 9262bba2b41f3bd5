#include "common/metrics/http_server.h"

#include <httplib.h>

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/host_port.h"

namespace tidegate {
namespace {

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '&') out += "&amp;";
    else out += c;
  }
  return out;
}

std::string NotFoundPage(const std::string& path, const std::vector<HttpPage>& pages) {
  std::string links;
  for (const HttpPage& page : pages) {
    absl::StrAppend(&links, "<li><a href=\"", page.path, "\">", page.path, "</a></li>");
  }
  return absl::StrCat("<!doctype html><meta charset=\"utf-8\"><title>404</title><h1>404: there is no such page</h1><p><code>",
                      Escaped(path.substr(0, 200)), "</code> is none of:</p><ul>", links, "</ul>\n");
}

}  // namespace

struct HttpServer::Impl {
  httplib::Server http;
  std::vector<HttpPage> pages;
  std::thread thread;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl, int port, std::string url)
    : impl_(std::move(impl)), port_(port), url_(std::move(url)) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& flag, const std::string& host, int port,
                                                              std::vector<HttpPage> pages) {
  auto impl = std::make_unique<Impl>();
  impl->pages = std::move(pages);
  httplib::Server& http = impl->http;
  http.new_task_queue = [] { return new httplib::ThreadPool(1); };
  http.set_keep_alive_max_count(1);
  http.set_read_timeout(5);
  http.set_write_timeout(5);
  http.set_payload_max_length(1 << 16);
  // Without SO_REUSEPORT, which httplib sets by itself: a taken port must be an error.
  http.set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  });
  for (const HttpPage& page : impl->pages) {
    http.Get(page.path, [&page](const httplib::Request&, httplib::Response& response) {
      response.set_content(page.body(), page.content_type.c_str());
    });
  }
  http.set_error_handler([pages = &impl->pages](const httplib::Request& request, httplib::Response& response) {
    if (response.status == 404) response.set_content(NotFoundPage(request.path, *pages), "text/html; charset=utf-8");
  });
  const int bound = port == 0 ? http.bind_to_any_port(host.c_str())
                              : (http.bind_to_port(host.c_str(), port) ? port : -1);
  if (bound <= 0) {
    return absl::UnavailableError(absl::StrCat(flag, "=", port, ": cannot listen on ", JoinHostPort(host, port),
                                               "; is the port in use?"));
  }
  impl->thread = std::thread([&http] { http.listen_after_bind(); });
  // stop() before the thread has come so far would be lost.
  while (!http.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl), bound, "http://" + JoinHostPort(host, bound)));
}

HttpServer::~HttpServer() {
  impl_->http.stop();
  impl_->thread.join();
}

}  // namespace tidegate
