#include "common/wiring/exit_within.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

namespace tidegate {
namespace {

TEST_CASE("a process that waits for ever, without memory, ends with the exit status that it had decided on") {
  int out[2];
  REQUIRE(pipe(out) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(out[1], STDERR_FILENO);
    const rlimit none = {0, 0};
    setrlimit(RLIMIT_AS, &none);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    ExitWithin(1, 42, "the service's shutdown");
    for (;;) pause();
  }
  close(out[1]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 42);
  char text[256];
  const ssize_t n = read(out[0], text, sizeof(text));
  REQUIRE(n > 0);
  CHECK_THAT(std::string(text, static_cast<size_t>(n)), Catch::Contains("the service's shutdown did not end within 1 s"));
  close(out[0]);
}

}  // namespace
}  // namespace tidegate
