#pragma once
// For processes that send and receive messages of megabytes all day: glibc gives such memory back to the
// kernel at each free and takes it again, page by page. Call once, early in main.

namespace tidegate {

// Freed memory of up to half a gigabyte stays with the process.
void KeepFreedMemory();

}  // namespace tidegate
