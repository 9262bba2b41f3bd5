#include "common/wiring/standard_streams.h"

#include <fcntl.h>
#include <unistd.h>

namespace tidegate {

void OpenStandardStreams() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

}  // namespace tidegate
