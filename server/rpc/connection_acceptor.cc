#include "server/rpc/connection_acceptor.h"

#include <grpc/support/time.h>
#include <pthread.h>

#include <chrono>

namespace tidegate {
namespace {

// Two or three looks until a new connection's first call has begun.
constexpr std::chrono::milliseconds kLookEvery{10};

}  // namespace

void ConnectionAcceptor::Start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "acceptor");
    Loop();
  });
}

void ConnectionAcceptor::Loop() {
  void* tag;
  bool ok;
  while (!stopping_) {
    queue_->AsyncNext(&tag, &ok, gpr_inf_past(GPR_CLOCK_MONOTONIC));
    std::this_thread::sleep_for(kLookEvery);
  }
  queue_->Shutdown();
  while (queue_->Next(&tag, &ok)) {
  }
}

void ConnectionAcceptor::Stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

}  // namespace tidegate
