#pragma once
// How gRPC works within a process: which thread reads a socket, and what its locks cost.

namespace tidegate {

// Each completion queue polls the connections of its own calls, so that a stream's messages are read and
// parsed on the thread that works on them. gRPC's default is one epoll set for the whole process: whichever
// thread polls at the moment, often one of gRPC's own, reads for all and hands every message on, which costs
// two wake-ups a message (docs/performance.md). Before the process's first use of gRPC; what
// GRPC_POLL_STRATEGY says already stays.
void PollOnOwnThreads();

// Abseil as distributions build it looks for cycles in the order of locks, gRPC's too: every lock is entered into a graph
// that all threads share. Not ours to find.
void IgnoreLockCycles();

}  // namespace tidegate
