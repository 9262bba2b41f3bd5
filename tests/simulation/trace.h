#pragma once
// What happened, one line per event, and a hash of it: equal seeds must give equal hashes. Lines are made
// only when somebody reads them.

#include <cstdint>
#include <cstdio>
#include <initializer_list>

#include "common/stable_hash.h"
#include "common/types.h"

namespace tidegate::simulation {

struct TraceField {
  const char* name;
  int64_t value;
};

class Trace {
 public:
  explicit Trace(std::FILE* out) : out_(out) {}

  void Line(TimeMs now, const char* what, std::initializer_list<TraceField> fields) {
    Mix(static_cast<uint64_t>(now));
    for (const char* c = what; *c != 0; ++c) Mix(static_cast<unsigned char>(*c));
    for (const TraceField& f : fields) Mix(static_cast<uint64_t>(f.value));
    if (out_ == nullptr) return;
    std::fprintf(out_, "%7lld %-18s", static_cast<long long>(now), what);
    for (const TraceField& f : fields) {
      std::fprintf(out_, " %s=%lld", f.name, static_cast<long long>(f.value));
    }
    std::fputc('\n', out_);
  }
  uint64_t hash() const { return hash_; }

 private:
  void Mix(uint64_t x) { hash_ = Mix64(hash_ ^ x); }

  std::FILE* const out_;
  uint64_t hash_ = 0;
};

}  // namespace tidegate::simulation
