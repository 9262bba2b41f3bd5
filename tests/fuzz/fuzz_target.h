#pragma once
// What a fuzz target defines; tests/fuzz/driver.cc runs it. `LLVMFuzzerTestOneInput` has libFuzzer's
// form, so that a clang build can use that instead.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// Valid inputs to start from.
std::vector<std::string> FuzzSeeds();
