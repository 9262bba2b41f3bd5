// Replays the scenario files of shard/: a command, a line of dashes, what the server answered. After a
// change of behaviour that is meant, run with TIDEGATE_REWRITE=<folder of the files> and read the diff.
//
//   group staleness=N [known=WORKERS] [strands=N] [shards=N] [foreign_from=SHARD] [memory=BYTES] [parked=N]
//   hello|tick|park w=N order=N [clock=N] [epoch=N]
//   push w=N seq=N clock=N [oldest=N] [weight=X] [part=N parts=N] [epoch=N] [generation=N] t0:KEY=G ...
//   pull w=N clock=N bound=N|none [eval] [epoch=N] t0:KEY ...
//   workers version=N last=N live=N,N
//   rate scale=X | routing epoch=N foreign_from=SHARD | read t0:KEY ... | counters
//
// Tables have rows of one float that begin at 0: t0 by SGD of rate 1, t1 by AdaGrad of rate 1.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/shard/shard_harness.h"

namespace tidegate {
namespace {

constexpr char kFolder[] = "tests/scenarios/shard";

struct Command {
  std::string name;
  std::map<std::string, std::string> arguments;
  std::vector<TestRows> tables;

  explicit Command(const std::string& line) {
    std::istringstream in(line);
    in >> name;
    for (std::string word; in >> word;) {
      if (word.size() > 2 && word[0] == 't' && word[2] == ':') {
        AddRow(word);
      } else {
        const size_t equals = word.find('=');
        arguments[word.substr(0, equals)] =
            equals == std::string::npos ? "1" : word.substr(equals + 1);
      }
    }
  }
  void AddRow(const std::string& word) {
    const TableId table = static_cast<TableId>(word[1] - '0');
    if (tables.empty() || tables.back().table != table) tables.push_back({table, {}, {}, {}});
    const size_t equals = word.find('=');
    tables.back().keys.push_back(std::stoull(word.substr(3, equals - 3)));
    if (equals != std::string::npos) {
      tables.back().values.push_back(std::stof(word.substr(equals + 1)));
    }
  }
  int64_t Number(const std::string& key, int64_t missing) const {
    auto it = arguments.find(key);
    if (it == arguments.end()) return missing;
    return it->second == "none" ? kNoBound : std::stoll(it->second);
  }
  double Real(const std::string& key, double missing) const {
    auto it = arguments.find(key);
    return it == arguments.end() ? missing : std::stod(it->second);
  }
};

class Scenario {
 public:
  std::string Run(const Command& c) {
    if (c.name == "group") {
      MakeGroup(c);
      return "";
    }
    CallToken call = 0;
    std::string out;
    if (c.name == "push") {
      call = harness_->Push(PushOf(c));
    } else if (c.name == "pull") {
      call = harness_->Pull(PullOf(c));
    } else if (c.name == "workers") {
      SetWorkers(c);
    } else if (c.name == "rate") {
      harness_->SetLearningRateScale(static_cast<float>(c.Real("scale", 1)));
    } else if (c.name == "routing") {
      const absl::Status status = harness_->SetRouting(
          static_cast<Epoch>(c.Number("epoch", 1)),
          static_cast<uint32_t>(c.Number("foreign_from", 1 << 30)));
      if (!status.ok()) out += Text(status) + "\n";
    } else if (c.name == "read") {
      for (const TestRows& table : c.tables) {
        absl::StrAppend(&out, "t", table.table, Text(harness_->Read(table.table, table.keys)), "\n");
      }
    } else if (c.name == "counters") {
      out += Counters();
    } else {
      call = harness_->Announce(static_cast<Incarnation>(c.Number("w", 0)),
                                static_cast<uint64_t>(c.Number("order", 0)), KindOf(c.name),
                                c.Number("clock", 0), static_cast<Epoch>(c.Number("epoch", 1)));
    }
    if (call != 0 && !harness_->Answered(call)) absl::StrAppend(&out, "#", call, " waits\n");
    for (CallToken done : harness_->TakeNew()) out += Text(done, harness_->Answer(done));
    return out;
  }

 private:
  static wire::ClockRequest::Kind KindOf(const std::string& name) {
    if (name == "hello") return wire::ClockRequest::Kind::kHello;
    if (name == "tick") return wire::ClockRequest::Kind::kTick;
    if (name != "park") FAIL("no such command: " << name);
    return wire::ClockRequest::Kind::kPark;
  }
  void MakeGroup(const Command& c) {
    ShardHarness::Options options;
    const Clock staleness = c.Number("staleness", 1);
    options.synchronous = staleness == 0;
    if (staleness > 0) options.staleness = staleness;
    options.known = static_cast<Incarnation>(c.Number("known", 50));
    options.strands = static_cast<int>(c.Number("strands", 1));
    options.shards = static_cast<uint32_t>(c.Number("shards", 8));
    options.foreign_from = static_cast<uint32_t>(c.Number("foreign_from", 1 << 30));
    options.memory_limit_bytes = static_cast<uint64_t>(c.Number("memory", 0));
    options.max_parked_per_worker = static_cast<size_t>(c.Number("parked", 16));
    harness_ = std::make_unique<ShardHarness>(
        options, std::vector<TableSpec>{SparseTable(0, 1, "sgd { lr: 1 }"),
                                        SparseTable(1, 1, "adagrad { lr: 1 }")});
  }
  static TestPush PushOf(const Command& c) {
    TestPush push;
    push.worker = static_cast<Incarnation>(c.Number("w", 0));
    push.sequence = static_cast<Sequence>(c.Number("seq", 0));
    push.oldest_unacked = static_cast<Sequence>(c.Number("oldest", 0));
    push.clock = c.Number("clock", 0);
    push.weight = c.Real("weight", 1);
    push.part = static_cast<uint32_t>(c.Number("part", 0));
    push.parts = static_cast<uint32_t>(c.Number("parts", 1));
    push.epoch = static_cast<Epoch>(c.Number("epoch", 1));
    push.generation = static_cast<uint64_t>(c.Number("generation", 1));
    push.tables = c.tables;
    return push;
  }
  static TestPull PullOf(const Command& c) {
    TestPull pull;
    pull.worker = static_cast<Incarnation>(c.Number("w", 0));
    pull.clock = c.Number("clock", 0);
    pull.bound = c.Number("bound", kNoBound);
    pull.eval = c.Number("eval", 0) != 0;
    pull.epoch = static_cast<Epoch>(c.Number("epoch", 1));
    pull.generation = static_cast<uint64_t>(c.Number("generation", 1));
    pull.tables = c.tables;
    return pull;
  }
  void SetWorkers(const Command& c) {
    std::vector<Incarnation> live;
    auto it = c.arguments.find("live");
    std::istringstream in(it == c.arguments.end() ? "" : it->second);
    for (std::string id; std::getline(in, id, ',');) live.push_back(std::stoull(id));
    harness_->SetWorkers(static_cast<uint64_t>(c.Number("version", 1)),
                         static_cast<Incarnation>(c.Number("last", 0)), live);
  }
  std::string Counters() {
    std::ostringstream out;
    const std::pair<const char*, uint64_t ShardMetrics::*> counters[] = {
        {"pulled_rows", &ShardMetrics::pulled_rows},
        {"pushed_rows", &ShardMetrics::pushed_rows},
        {"duplicate_pushes", &ShardMetrics::duplicate_pushes},
        {"duplicate_rows", &ShardMetrics::duplicate_rows},
        {"refused_generation", &ShardMetrics::pushes_refused_generation},
        {"refused_rejoin", &ShardMetrics::pushes_refused_rejoin},
        {"refused_routing", &ShardMetrics::pushes_refused_routing},
        {"refused_memory", &ShardMetrics::pushes_refused_memory},
        {"refused_other", &ShardMetrics::pushes_refused_other},
        {"pulls_parked", &ShardMetrics::pulls_parked},
        {"pulls_replaced", &ShardMetrics::pulls_replaced},
        {"clocks_applied", &ShardMetrics::clocks_applied},
    };
    for (const auto& [name, counter] : counters) {
      if (harness_->Total(counter) > 0) out << name << " " << harness_->Total(counter) << "\n";
    }
    for (size_t i = 0; i < ShardMetrics::kStalenessBuckets; ++i) {
      const uint64_t pulls = harness_->group().metrics().staleness[i];
      if (pulls > 0) out << "staleness " << i << ": " << pulls << "\n";
    }
    out << "parked " << harness_->group().parked_pulls() << " held "
        << harness_->group().held_pushes() << " sessions " << harness_->group().sessions() << "\n";
    return out.str();
  }
  static std::string Text(const std::vector<float>& values) {
    std::ostringstream out;
    for (float value : values) out << " " << (value == 0 ? 0.0f : value);
    return out.str();
  }
  static std::string Text(const absl::Status& status) {
    if (status.ok()) return "OK";
    return absl::StatusCodeToString(status.code()) + ": " + std::string(status.message());
  }
  static std::string Text(CallToken call, const TestAnswer& answer) {
    std::ostringstream out;
    out << "#" << call << (answer.kind == 'p' ? " pull " : answer.kind == 'u' ? " push " : " clock ")
        << Text(answer.status);
    if (answer.status.ok()) {
      if (answer.kind != 'u') out << " min=" << answer.min_clock;
      if (answer.duplicate_rows > 0) out << " duplicate_rows=" << answer.duplicate_rows;
      if (!answer.refused_shards.empty()) out << " refused:";
      for (ShardId shard : answer.refused_shards) out << " " << shard;
      for (const auto& rows : answer.rows) out << " rows:" << Text(rows);
    }
    out << "\n";
    return out.str();
  }

  std::unique_ptr<ShardHarness> harness_;
};

struct Replay {
  std::string text;         // with the answers that were given
  std::string differences;  // from those of the file
};

Replay ReplayFile(const std::filesystem::path& path) {
  std::ifstream in(path);
  Scenario scenario;
  Replay out;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    out.text += line + "\n";
    if (line.empty() || line[0] == '#') continue;
    const int at = number;
    const std::string answer = scenario.Run(Command(line));
    std::string expected;
    bool dashes = false;
    while (in.peek() != EOF && in.peek() != '\n' && std::getline(in, line)) {
      ++number;
      if (!dashes && line == "----") {
        dashes = true;
      } else {
        expected += line + "\n";
      }
    }
    if (!answer.empty()) out.text += "----\n" + answer;
    if (answer != expected) {
      out.differences += path.filename().string() + ":" + std::to_string(at) + ": expected\n" +
                         expected + "got\n" + answer;
    }
  }
  return out;
}

TEST_CASE("shard scenarios play as they are written") {
  const char* rewrite = std::getenv("TIDEGATE_REWRITE");
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(rewrite != nullptr ? rewrite : kFolder)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  REQUIRE(files.size() == 14);
  for (const auto& file : files) {
    INFO(file.string());
    const Replay replay = ReplayFile(file);
    if (rewrite != nullptr) {
      std::ofstream(file) << replay.text;
    } else {
      CHECK(replay.differences == "");
    }
  }
}

}  // namespace
}  // namespace tidegate
