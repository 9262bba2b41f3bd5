#include "common/executor/signal_watcher.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

namespace tidegate {
namespace {

constexpr int kPatience = 3;

sigset_t Watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);  // the destructor's
  return set;
}

}  // namespace

void BlockStopSignals() {
  const sigset_t set = Watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

SignalWatcher::SignalWatcher(std::function<void(int)> on_signal) {
  BlockStopSignals();
  const sigset_t set = Watched();
  thread_ = std::thread([set, on_signal = std::move(on_signal)] {
    for (int seen = 0;;) {
      int number = 0;
      if (sigwait(&set, &number) != 0) continue;
      if (number == SIGUSR1) return;
      if (++seen >= kPatience) _exit(130);
      on_signal(number);
    }
  });
}

SignalWatcher::~SignalWatcher() {
  pthread_kill(thread_.native_handle(), SIGUSR1);
  thread_.join();
}

}  // namespace tidegate
