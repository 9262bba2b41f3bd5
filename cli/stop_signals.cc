#include "cli/stop_signals.h"

#include <signal.h>

#include <cstdint>
#include <ctime>
#include <initializer_list>

namespace tidegate::cli {
namespace {

volatile sig_atomic_t g_signals = 0;
volatile sig_atomic_t g_last_signal = 0;
volatile int64_t g_signal_at_ms = 0;
static_assert(sizeof(void*) == 8, "g_signal_at_ms is read and written in one piece");

constexpr int64_t kSameWishMs = 300;

void OnSignal(int signal) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t now_ms = int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
  if (g_signals > 0 && now_ms - g_signal_at_ms < kSameWishMs) return;
  g_signal_at_ms = now_ms;
  g_signals = g_signals + 1;
  g_last_signal = signal;
}

}  // namespace

void CatchStopSignals() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&action.sa_mask, signal);
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

int StopSignals() { return g_signals; }
int LastStopSignal() { return g_last_signal; }

}  // namespace tidegate::cli
