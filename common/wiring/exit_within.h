#pragma once
// A bound on how long a process may take to end, once its exit status is known.

namespace tidegate {

// After so many seconds the process says that `what` did not end, and ends by _exit(code). Needs neither a thread
// nor memory, so that it works where a library waits for a thread that it could not make. Takes SIGALRM. Call it
// after all that must be written is written.
void ExitWithin(unsigned seconds, int code, const char* what);

}  // namespace tidegate
