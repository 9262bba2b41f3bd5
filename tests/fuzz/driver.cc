// A small fuzz driver for compilers without libFuzzer: links with a target's LLVMFuzzerTestOneInput,
// mutates its seeds from a fixed random seed and runs it; a sanitizer or TG_CHECK reports. The input
// at hand is kept in a file that is named when the process dies.
//
//   target [--seconds=N] [--runs=N] [--seed=N] [file...]
//
// With files: runs them once each, unmutated (a crash found before). Default: 20,000 runs.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace {

using Input = std::vector<uint8_t>;

struct Random {
  uint64_t state;
  uint64_t Next() {
    uint64_t x = state += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  }
  size_t Below(size_t n) { return n == 0 ? 0 : Next() % n; }
};

std::string crash_path;
const Input* current = nullptr;

void WriteCurrent(int) {
  if (current != nullptr) {
    if (FILE* f = std::fopen(crash_path.c_str(), "wb")) {
      std::fwrite(current->data(), 1, current->size(), f);
      std::fclose(f);
      std::fprintf(stderr, "fuzz: the input is in %s (%zu bytes)\n", crash_path.c_str(),
                   current->size());
    }
  }
  _exit(1);
}

void InsertAt(Input* in, size_t at, const uint8_t* data, size_t size) {
  in->insert(in->begin() + static_cast<std::ptrdiff_t>(at), data, data + size);
}

void MutateOnce(Random* random, const std::vector<Input>& corpus, Input* in) {
  static constexpr uint64_t kInteresting[] = {0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff,
                                              0xffffffff, ~0ull, 1ull << 63};
  const size_t at = random->Below(in->size());
  switch (random->Below(9)) {
    case 0:
      if (!in->empty()) (*in)[at] ^= static_cast<uint8_t>(1u << random->Below(8));
      break;
    case 1:
      if (!in->empty()) (*in)[at] = static_cast<uint8_t>(random->Next());
      break;
    case 2:
      in->resize(random->Below(in->size() + 1));
      break;
    case 3: {
      const uint8_t byte = static_cast<uint8_t>(random->Next());
      InsertAt(in, random->Below(in->size() + 1), &byte, 1);
      break;
    }
    case 4:
      if (!in->empty()) {
        const size_t n = 1 + random->Below(std::min<size_t>(in->size() - at, 16));
        in->erase(in->begin() + static_cast<std::ptrdiff_t>(at),
                  in->begin() + static_cast<std::ptrdiff_t>(at + n));
      }
      break;
    case 5: {
      const uint64_t value = kInteresting[random->Below(std::size(kInteresting))];
      const size_t n = size_t{1} << random->Below(4);
      if (in->size() >= n) std::memcpy(in->data() + random->Below(in->size() - n + 1), &value, n);
      break;
    }
    case 6:  // over-long varint
    case 7: {
      const size_t n = 1 + random->Below(11);
      Input varint(n, 0xff);
      varint.back() = static_cast<uint8_t>(random->Below(128));
      InsertAt(in, random->Below(in->size() + 1), varint.data(), n);
      break;
    }
    default: {  // splice
      const Input& other = corpus[random->Below(corpus.size())];
      if (other.empty()) break;
      const size_t from = random->Below(other.size());
      const size_t n = 1 + random->Below(other.size() - from);
      const Input piece(other.begin() + static_cast<std::ptrdiff_t>(from),
                        other.begin() + static_cast<std::ptrdiff_t>(from + n));
      InsertAt(in, random->Below(in->size() + 1), piece.data(), piece.size());
    }
  }
}

void RunOne(const Input& in) {
  current = &in;
  // A copy of exact size on the heap, so that a read past the end is seen.
  uint8_t* data = static_cast<uint8_t*>(std::malloc(in.size() == 0 ? 1 : in.size()));
  if (!in.empty()) std::memcpy(data, in.data(), in.size());
  LLVMFuzzerTestOneInput(data, in.size());
  std::free(data);
  current = nullptr;
}

bool Flag(const char* arg, const char* name, uint64_t* value) {
  const size_t n = std::strlen(name);
  if (std::strncmp(arg, name, n) != 0) return false;
  char* end = nullptr;
  *value = std::strtoull(arg + n, &end, 10);
  if (arg[n] == '\0' || *end != '\0') {
    std::fprintf(stderr, "fuzz: %s is no number\n", arg);
    std::exit(2);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr size_t kCorpusMax = 2000;
  constexpr size_t kInputBytesMax = 64 << 10;
  uint64_t seconds = 0, runs = 0, seed = 1;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    if (!Flag(argv[i], "--seconds=", &seconds) && !Flag(argv[i], "--runs=", &runs) &&
        !Flag(argv[i], "--seed=", &seed)) {
      files.emplace_back(argv[i]);
    }
  }
  if (seconds == 0 && runs == 0) runs = 20000;
  const char* folder = std::getenv("TEST_TMPDIR");
  crash_path = std::string(folder != nullptr ? folder : "/tmp") + "/fuzz-crash-" +
               std::to_string(getpid());
  for (int s : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) signal(s, WriteCurrent);

  for (const std::string& path : files) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
      std::fprintf(stderr, "fuzz: cannot read %s\n", path.c_str());
      return 2;
    }
    RunOne(Input(std::istreambuf_iterator<char>(in), {}));
  }
  if (!files.empty()) return 0;

  std::vector<Input> corpus;
  for (const std::string& s : FuzzSeeds()) corpus.emplace_back(s.begin(), s.end());
  corpus.emplace_back();
  const size_t seeds = corpus.size();
  for (size_t i = 0; i < seeds; ++i) RunOne(corpus[i]);
  Random random{seed};
  const auto start = std::chrono::steady_clock::now();
  uint64_t done = 0;
  for (; runs == 0 || done < runs; ++done) {
    if (seconds != 0 && done % 256 == 0 &&
        std::chrono::steady_clock::now() - start >= std::chrono::seconds(seconds)) {
      break;
    }
    Input in = corpus[random.Below(corpus.size())];
    for (size_t n = 1 + random.Below(6); n > 0; --n) MutateOnce(&random, corpus, &in);
    if (in.size() > kInputBytesMax) in.resize(kInputBytesMax);
    RunOne(in);
    // Walk away from the seeds slowly; they themselves stay.
    if (random.Below(8) == 0) {
      if (corpus.size() < kCorpusMax) {
        corpus.push_back(std::move(in));
      } else {
        corpus[seeds + random.Below(corpus.size() - seeds)] = std::move(in);
      }
    }
  }
  std::printf("fuzz: %llu runs, seed %llu, no fault found\n",
              static_cast<unsigned long long>(done), static_cast<unsigned long long>(seed));
  return 0;
}
