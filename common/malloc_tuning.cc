#include "common/malloc_tuning.h"

#include <malloc.h>

namespace tidegate {

void KeepFreedMemory() {
#ifdef M_MMAP_THRESHOLD
  constexpr int kMmapThresholdBytes = 32 << 20;  // glibc's maximum
  constexpr int kTrimThresholdBytes = 512 << 20;
  constexpr int kTopPadBytes = 16 << 20;
  mallopt(M_MMAP_THRESHOLD, kMmapThresholdBytes);
  mallopt(M_TRIM_THRESHOLD, kTrimThresholdBytes);
  mallopt(M_TOP_PAD, kTopPadBytes);
#endif
}

}  // namespace tidegate
