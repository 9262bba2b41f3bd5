#pragma once
// Ctrl-C, SIGTERM and SIGHUP of a command that ends its processes in order. Of the main thread.

namespace tidegate::cli {

// From here on they are counted instead of ending this process. One that comes within 300 ms of another (a
// terminal or `timeout` signals us, and our group with us) is the same wish.
void CatchStopSignals();
int StopSignals();     // wishes so far
int LastStopSignal();  // number of the newest; 0: none

}  // namespace tidegate::cli
