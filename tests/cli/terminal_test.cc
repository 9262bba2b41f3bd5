#include "cli/terminal.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace tidegate::cli {
namespace {

TEST_CASE("a glog line is cut to severity, time and message") {
  const std::string line = "I20261122 15:40:05.123456  1234 server_main.cc:88] [server 2] listening";
  CHECK(ShownLine(line, Verbosity::kNormal) == "I 15:40:05 listening");
  CHECK(ShownLine(line, Verbosity::kVerbose) == line);
  CHECK(ShownLine("W1122 15:40:05.123456  1234 a.cc:1] slow", Verbosity::kNormal) == "W 15:40:05 slow");
}

TEST_CASE("quiet leaves out what only informs") {
  CHECK(ShownLine("I20261122 15:40:05.123456  1234 a.cc:1] fine", Verbosity::kQuiet).empty());
  CHECK(ShownLine("E20261122 15:40:05.123456  1234 a.cc:1] broken", Verbosity::kQuiet) == "E 15:40:05 broken");
  CHECK(ShownLine("terminate called", Verbosity::kQuiet) == "terminate called");
}

TEST_CASE("why a job has ended is not shown from everyone who hears of it") {
  const std::string glog = "E20261122 15:40:05.123456  1234 a.cc:1] ";
  for (const char* end : {"the job failed: worker 2: bad line", "failed: bad line", "stopped: by hand", "the job was stopped: by hand"}) {
    CHECK(ShownLine(glog + end, Verbosity::kNormal).empty());
    CHECK(ShownLine(glog + end, Verbosity::kVerbose) == glog + end);
  }
  CHECK(ShownLine(glog + "server 1 (server/0) left: the job failed: bad line", Verbosity::kNormal) == "E 15:40:05 server 1 (server/0) left");
  CHECK(ShownLine(glog + "server 1 (server/0) left: finished", Verbosity::kNormal) == "E 15:40:05 server 1 (server/0) left: finished");
  CHECK(ShownLine(glog + "1 bad line: a.svm:2", Verbosity::kNormal) == "E 15:40:05 1 bad line: a.svm:2");
}

TEST_CASE("lines that only look like glog's are kept whole") {
  CHECK(ShownLine("I am a line of some program, with words] in it", Verbosity::kNormal) ==
        "I am a line of some program, with words] in it");
  CHECK(ShownLine("", Verbosity::kNormal).empty());
  CHECK(ShownLine("E", Verbosity::kNormal) == "E");
}

TEST_CASE("output in pieces becomes whole lines, and all of it goes to the process's log") {
  const std::string directory = std::getenv("TEST_TMPDIR");
  {
    Terminal terminal(Verbosity::kQuiet, directory, false);
    terminal.Output("server/0", "first li");
    CHECK(terminal.LastLines("server/0").empty());
    terminal.Output("server/0", "ne\nsecond");
    CHECK(terminal.LastLines("server/0") == "first line\n");
    terminal.EndOutput("server/0");
    CHECK(terminal.LastLines("server/0") == "first line\nsecond\n");
  }
  std::ifstream log(directory + "/server-0.log");
  std::ostringstream text;
  text << log.rdbuf();
  CHECK(text.str() == "first line\nsecond");
}

}  // namespace
}  // namespace tidegate::cli
