#include "common/wiring/standard_streams.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <vector>

namespace tidegate {
namespace {

// The number that the next file gets in a child without these streams.
int NextNumberWithout(const std::vector<int>& closed, bool open_standard_streams) {
  const pid_t child = fork();
  if (child == 0) {
    for (int fd = 0; fd < 64; ++fd) {
      if (fd > STDERR_FILENO) close(fd);
    }
    for (int fd : closed) close(fd);
    if (open_standard_streams) OpenStandardStreams();
    _exit(open("/dev/zero", O_RDONLY));
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST_CASE("no file of a process gets the number of a standard stream") {
  for (const std::vector<int>& closed : std::vector<std::vector<int>>{{0}, {1}, {2}, {1, 2}, {0, 1, 2}}) {
    CHECK(NextNumberWithout(closed, false) == closed[0]);
    CHECK(NextNumberWithout(closed, true) == 3);
  }
  CHECK(NextNumberWithout({}, true) == 3);
}

}  // namespace
}  // namespace tidegate
