#include "common/rpc/polling.h"

#include <cstdlib>

namespace tidegate {

void PollOnOwnThreads() { setenv("GRPC_POLL_STRATEGY", "poll,epoll1", /*overwrite=*/0); }

}  // namespace tidegate
