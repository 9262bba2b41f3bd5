#pragma once
// SIGINT and SIGTERM as a callback on an ordinary thread. Make it first in main, before any other
// thread exists: it blocks the signals for all threads made later.
//
// The callback comes once per signal, with its number. A third signal ends the process at once
// (exit code 130), whatever hangs.

#include <functional>
#include <thread>

namespace tidegate {

// Stop signals become the watcher's, in this thread and those it starts. The watcher does it too; call it
// earlier where threads start before the watcher.
void BlockStopSignals();

class SignalWatcher {
 public:
  explicit SignalWatcher(std::function<void(int signal)> on_signal);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  std::thread thread_;
};

}  // namespace tidegate
