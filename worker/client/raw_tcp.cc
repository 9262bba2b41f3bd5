#include "worker/client/raw_tcp.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

namespace tidegate {
namespace {

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

bool Receive(int fd, std::vector<char>* buffer, size_t n) {
  for (size_t at = 0; at < n;) {
    const ssize_t got = recv(fd, buffer->data() + at, n - at, MSG_WAITALL);
    if (got <= 0) return false;
    at += static_cast<size_t>(got);
  }
  return true;
}
bool SendAll(int fd, const std::vector<char>& buffer, size_t n) {
  for (size_t at = 0; at < n;) {
    const ssize_t sent = send(fd, buffer.data() + at, n - at, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    at += static_cast<size_t>(sent);
  }
  return true;
}

}  // namespace

absl::StatusOr<double> RawTcpRoundTrips(size_t request_bytes, size_t answer_bytes, int in_flight,
                                        double seconds) {
  const Socket listener(socket(AF_INET, SOCK_STREAM, 0));
  const Socket client(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener.fd(), generic, length) != 0 || listen(listener.fd(), 1) != 0 ||
      getsockname(listener.fd(), generic, &length) != 0 ||
      connect(client.fd(), generic, length) != 0) {
    return absl::ErrnoToStatus(errno, "raw TCP on loopback");
  }
  const Socket server(accept(listener.fd(), nullptr, nullptr));
  if (server.fd() < 0) return absl::ErrnoToStatus(errno, "raw TCP: accept");
  const int on = 1;
  setsockopt(client.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(server.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);

  std::thread answering([&] {
    std::vector<char> request(request_bytes, 1), answer(answer_bytes, 1);
    while (Receive(server.fd(), &request, request_bytes) &&
           SendAll(server.fd(), answer, answer_bytes)) {
    }
  });
  std::vector<char> request(request_bytes, 1), answer(answer_bytes, 1);
  bool ok = true;
  for (int i = 0; i < in_flight; ++i) ok = ok && SendAll(client.fd(), request, request_bytes);
  const auto start = std::chrono::steady_clock::now();
  std::chrono::duration<double> elapsed{};
  size_t done = 0;
  while (ok && elapsed.count() < seconds) {
    ok = Receive(client.fd(), &answer, answer_bytes) && SendAll(client.fd(), request, request_bytes);
    ++done;
    elapsed = std::chrono::steady_clock::now() - start;
  }
  shutdown(client.fd(), SHUT_RDWR);
  shutdown(server.fd(), SHUT_RDWR);
  answering.join();
  if (!ok) return absl::InternalError("raw TCP on loopback broke");
  return static_cast<double>(done) / elapsed.count();
}

}  // namespace tidegate
