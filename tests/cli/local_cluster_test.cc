// LocalCluster with shell scripts in the place of the binaries.

#include "cli/local_cluster.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tidegate::cli {
namespace {

// Each script finds the run's folder in $D. The scheduler's reads its --address_file.
constexpr char kScheduler[] = R"(#!/bin/sh
echo "$@" >> "$D/scheduler_args"
echo x >> "$D/scheduler_starts"
for a in "$@"; do case "$a" in --address_file=*) f="${a#*=}";; --summary=*) s="${a#*=}";; esac; done
echo 127.0.0.1:1 > "$f.new" && mv "$f.new" "$f"
echo '{"samples": 5}' > "$s"
)";

class Fixture {
 public:
  Fixture() {
    static int count = 0;
    directory_ = std::string(std::getenv("TEST_TMPDIR")) + "/" + std::to_string(++count);
    std::filesystem::create_directories(directory_ + "/run/logs");
    setenv("D", directory_.c_str(), 1);
    Script("scheduler", "while [ ! -e \"$D/end\" ]; do sleep 0.02; done\n", kScheduler);
    Script("server", "while [ ! -e \"$D/end\" ]; do sleep 0.02; done\n");
    Script("worker", "while [ ! -e \"$D/end\" ]; do sleep 0.02; done\n");
  }
  void Script(const std::string& role, const std::string& body, const std::string& head = "#!/bin/sh\n") {
    const std::string path = directory_ + "/tidegate-" + role;
    std::ofstream(path) << head << body;
    chmod(path.c_str(), 0755);
  }
  LocalClusterOptions Options() {
    LocalClusterOptions options;
    options.bin_dir = directory_;
    options.run_dir = directory_ + "/run";
    options.config = "job.textproto";
    options.sets = {"train.epochs=2"};
    options.servers = 2;
    options.workers = 2;
    options.grace_s = 2;
    options.start_timeout_s = 20;
    options.show_progress = false;
    return options;
  }
  void End() { std::ofstream(directory_ + "/end"); }
  std::string Read(const std::string& name) {
    std::ifstream in(directory_ + "/" + name);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }
  const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
};

// Steps until the scheduler has ended or `condition` holds.
template <typename Condition>
bool StepUntil(LocalCluster* cluster, Condition condition) {
  for (int i = 0; i < 1000; ++i) {
    if (!cluster->Step(20)) return false;
    if (condition()) return true;
  }
  FAIL("waited too long");
  return false;
}

TEST_CASE("a job runs to its end and has the scheduler's exit status") {
  Fixture f;
  f.Script("scheduler", "while [ ! -e \"$D/end\" ]; do sleep 0.02; done\nexit 7\n", kScheduler);
  Terminal terminal(Verbosity::kQuiet, f.directory() + "/run/logs", false);
  LocalCluster cluster(f.Options(), &terminal);
  REQUIRE(cluster.Start().ok());
  CHECK(cluster.address() == "127.0.0.1:1");
  CHECK(cluster.ServerPids().size() == 2);
  f.End();
  StepUntil(&cluster, [] { return false; });
  CHECK(cluster.Finish() == 7);
  const std::string args = f.Read("scheduler_args");
  CHECK(args.find("--set=train.epochs=2 --set=cluster.servers=2 --set=cluster.workers=2") != std::string::npos);
}

TEST_CASE("a scheduler that is killed comes back on its port with its state") {
  Fixture f;
  f.Script("scheduler", "[ $(wc -l < \"$D/scheduler_starts\") = 1 ] && kill -9 $$\nwhile [ ! -e \"$D/end\" ]; do sleep 0.02; done\n",
           kScheduler);
  Terminal terminal(Verbosity::kQuiet, "", false);
  LocalCluster cluster(f.Options(), &terminal);
  REQUIRE(cluster.Start().ok());
  StepUntil(&cluster, [&] { return f.Read("scheduler_starts") == "x\nx\n"; });
  f.End();
  StepUntil(&cluster, [] { return false; });
  CHECK(cluster.Finish() == 0);
  CHECK(cluster.scheduler_restarts() == 1);
  const std::string args = f.Read("scheduler_args");
  const std::string second = args.substr(args.find('\n') + 1);
  CHECK(args.substr(0, args.find('\n')).find("--listen=") == std::string::npos);
  CHECK(second.find("--listen=127.0.0.1:1") != std::string::npos);
  CHECK(second.find("--state=" + f.directory() + "/run/state") != std::string::npos);
}

TEST_CASE("a scheduler that keeps dying fails the job") {
  Fixture f;
  f.Script("scheduler", "kill -9 $$\n", kScheduler);
  Terminal terminal(Verbosity::kQuiet, "", false);
  LocalCluster cluster(f.Options(), &terminal);
  REQUIRE(cluster.Start().ok());
  StepUntil(&cluster, [] { return false; });
  CHECK(cluster.Finish() == 1);
  CHECK(cluster.scheduler_restarts() == 5);
  CHECK(cluster.reason() == "the scheduler ended: killed by signal 9 (Killed)");
}

TEST_CASE("a scheduler that refuses its config ends the start, with its exit status named") {
  Fixture f;
  f.Script("scheduler", "echo 'bad config' >&2\nexit 1\n");
  Terminal terminal(Verbosity::kQuiet, f.directory() + "/run/logs", false);
  LocalCluster cluster(f.Options(), &terminal);
  const absl::Status status = cluster.Start();
  CHECK(std::string(status.message()) == "the scheduler did not start: exit status 1");
  CHECK(f.Read("run/logs/scheduler.log") == "bad config\n");
}

TEST_CASE("one worker's death is reported and the job goes on; the last one's ends it") {
  Fixture f;
  f.Script("worker", "case \"$*\" in *worker/0*) kill -9 $$;; esac\nwhile [ ! -e \"$D/end\" ]; do sleep 0.02; done\n");
  f.Script("scheduler", "trap 'exit 130' TERM\nwhile [ ! -e \"$D/end\" ]; do sleep 0.02; done\n", kScheduler);
  Terminal terminal(Verbosity::kQuiet, "", false);
  LocalCluster cluster(f.Options(), &terminal);
  REQUIRE(cluster.Start().ok());
  REQUIRE(StepUntil(&cluster, [&] { return !cluster.endings().empty(); }));
  CHECK(cluster.endings()[0] == "worker/0: killed by signal 9 (Killed)");
  f.End();
  StepUntil(&cluster, [] { return false; });
  CHECK(cluster.Finish() == 0);

  Fixture g;
  g.Script("worker", "kill -9 $$\n");
  g.Script("scheduler", "trap 'exit 130' TERM\nwhile [ ! -e \"$D/end\" ]; do sleep 0.02; done\n", kScheduler);
  LocalClusterOptions without_answer = g.Options();
  without_answer.answer_timeout_s = 1;
  LocalCluster doomed(without_answer, &terminal);
  REQUIRE(doomed.Start().ok());
  StepUntil(&doomed, [] { return false; });
  CHECK(doomed.Finish() == 1);
  CHECK(doomed.reason().find("no worker is left: worker/") == 0);
}

TEST_CASE("members that do not end are ended") {
  Fixture f;
  f.Script("scheduler", "exit 0\n", std::string(kScheduler) + "sleep 0.3\n");
  f.Script("server", "trap '' TERM\nwhile true; do sleep 0.05; done\n");
  LocalClusterOptions options = f.Options();
  options.servers = 1;
  options.grace_s = 1;
  Terminal terminal(Verbosity::kQuiet, "", false);
  LocalCluster cluster(options, &terminal);
  REQUIRE(cluster.Start().ok());
  const pid_t server = cluster.ServerPids()[0];
  StepUntil(&cluster, [] { return false; });
  CHECK(cluster.Finish() == 0);
  CHECK(kill(server, 0) != 0);
}

TEST_CASE("a signal before the scheduler listens ends the start") {
  Fixture f;
  f.Script("scheduler", "exec sleep 1000\n");
  LocalClusterOptions options = f.Options();
  int asked = 0;
  options.signals = [&asked] { return ++asked > 2 ? 1 : 0; };
  Terminal terminal(Verbosity::kQuiet, "", false);
  LocalCluster cluster(options, &terminal);
  CHECK(cluster.Start().code() == absl::StatusCode::kCancelled);
  CHECK_FALSE(cluster.accepted());
}

TEST_CASE("a refusal says what the scheduler's last error was, and names the folder of an earlier run") {
  Fixture f;
  f.Script("scheduler", "echo 'E20261122 15:40:05.123456  1234 a.cc:1] another config' >&2\nexit 2\n");
  std::filesystem::create_directories(f.directory() + "/run/state");
  std::ofstream(f.directory() + "/run/state/scheduler.state") << "x";
  Terminal terminal(Verbosity::kQuiet, "", false);
  LocalCluster cluster(f.Options(), &terminal);
  const std::string message(cluster.Start().message());
  CHECK(message.find("exit status 2: another config (--run_dir=" + f.directory() + "/run ") != std::string::npos);
}

TEST_CASE("missing binaries are named") {
  Fixture f;
  LocalClusterOptions options = f.Options();
  options.bin_dir = f.directory() + "/nowhere";
  Terminal terminal(Verbosity::kQuiet, "", false);
  LocalCluster cluster(options, &terminal);
  CHECK(std::string(cluster.Start().message()).find("nowhere/tidegate-scheduler") != std::string::npos);
}

TEST_CASE("a child's ending is told in words") {
  auto child = ChildProcess::Start("x", {"/bin/sh", "-c", "exit 3"});
  REQUIRE(child.ok());
  while (!(*child)->Ended()) usleep(1000);
  CHECK((*child)->exit_status() == 3);
  CHECK((*child)->Ending() == "exit status 3");
  CHECK_FALSE((*child)->killed());
  CHECK(std::string(ChildProcess::Start("x", {"/no/such/binary"}).status().message()) ==
        "cannot start /no/such/binary: No such file or directory");
}

}  // namespace
}  // namespace tidegate::cli
