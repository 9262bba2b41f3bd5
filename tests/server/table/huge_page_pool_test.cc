#include "server/table/huge_page_pool.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "common/random.h"
#include "server/table/memory_block.h"

namespace tidegate {

TEST_CASE("blocks of a pool are aligned and never overlap, whatever was given back before") {
  HugePagePool pool(2 * kHugePage);
  Random random(7);
  std::map<std::byte*, size_t> taken;
  for (int i = 0; i < 4000; ++i) {
    if (taken.size() < 20 || random.Below(2) == 0) {
      const size_t bytes = 64 * (1 + random.Below(4000));
      std::byte* const data = pool.Take(bytes);
      REQUIRE(reinterpret_cast<uintptr_t>(data) % HugePagePool::kAlignment == 0);
      const auto [at, fresh] = taken.emplace(data, bytes);
      REQUIRE(fresh);
      if (at != taken.begin()) REQUIRE(std::prev(at)->first + std::prev(at)->second <= data);
      if (std::next(at) != taken.end()) REQUIRE(data + bytes <= std::next(at)->first);
      std::memset(data, 1, bytes);  // it is there
    } else {
      const auto at = std::next(taken.begin(), static_cast<ptrdiff_t>(random.Below(taken.size())));
      pool.Give(at->first, at->second);
      taken.erase(at);
    }
  }
  for (const auto& [data, bytes] : taken) pool.Give(data, bytes);
  CHECK(pool.regions() == 1);  // the others were given back
}

TEST_CASE("pieces that are given back become one again") {
  HugePagePool pool(kHugePage);
  std::vector<std::byte*> quarters;
  for (int i = 0; i < 4; ++i) quarters.push_back(pool.Take(kHugePage / 4));
  for (const int i : {2, 0, 3, 1}) pool.Give(quarters[static_cast<size_t>(i)], kHugePage / 4);
  std::byte* const whole = pool.Take(kHugePage);
  CHECK(pool.regions() == 1);
  pool.Give(whole, kHugePage);
}

TEST_CASE("the smallest piece that is large enough is taken") {
  HugePagePool pool(kHugePage);
  std::byte* const small = pool.Take(4096);
  std::byte* const between = pool.Take(64);
  std::byte* const rest = pool.Take(kHugePage - 4096 - 64 - 8192);
  pool.Give(small, 4096);  // free: 4096 bytes, and 8192 at the end
  CHECK(pool.Take(4096) == small);
  pool.Give(small, 4096);
  pool.Give(between, 64);
  pool.Give(rest, kHugePage - 4096 - 64 - 8192);
}

TEST_CASE("a block is zeroed also where its memory was another's") {
  for (const size_t bytes : {size_t{100}, size_t{20000}, size_t{300000}, kHugePage + 1}) {
    for (int round = 0; round < 3; ++round) {
      MemoryBlock block(bytes);
      REQUIRE(block.size() >= bytes);
      CHECK(std::all_of(block.data(), block.data() + block.size(), [](std::byte b) { return b == std::byte{0}; }));
      std::memset(block.data(), 0xff, block.size());
      const MemoryBlock moved = std::move(block);
      CHECK(moved.size() >= bytes);
    }
  }
}

}  // namespace tidegate
