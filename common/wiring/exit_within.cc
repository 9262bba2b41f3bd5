#include "common/wiring/exit_within.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>

namespace tidegate {
namespace {

int exit_code = 0;
char message[160];
int message_bytes = 0;

void OnAlarm(int) {
  if (write(STDERR_FILENO, message, static_cast<size_t>(message_bytes)) < 0) _exit(exit_code);
  _exit(exit_code);
}

}  // namespace

void ExitWithin(unsigned seconds, int code, const char* what) {
  exit_code = code;
  message_bytes = std::snprintf(message, sizeof(message), "%.80s did not end within %u s (out of memory or threads?): exits now\n",
                                what, seconds);
  struct sigaction action = {};
  action.sa_handler = OnAlarm;
  sigaction(SIGALRM, &action, nullptr);
  sigset_t alarms;
  sigemptyset(&alarms);
  sigaddset(&alarms, SIGALRM);
  pthread_sigmask(SIG_UNBLOCK, &alarms, nullptr);
  alarm(seconds);
}

}  // namespace tidegate
