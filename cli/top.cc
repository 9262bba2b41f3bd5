// `tidegate top`: a live view of a running job.

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <optional>
#include <string>
#include <thread>

#include "cli/command.h"
#include "cli/flags.h"
#include "cli/status_client.h"
#include "cli/status_text.h"
#include "cli/top_view.h"
#include "common/clock.h"

DEFINE_int32(interval_ms, 1000, "");
DEFINE_int32(count, 0, "");

namespace tidegate::cli {
namespace {

constexpr int kAnswerMs = 5000;
constexpr char kAlternateScreen[] = "\033[?1049h\033[?25l";
constexpr char kOrdinaryScreen[] = "\033[?25h\033[?1049l";

volatile sig_atomic_t g_stop = 0;

winsize Window() {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) size = {40, 150, 0, 0};
  return size;
}

void Show(const Observation& now, const Observation* before, bool terminal) {
  if (terminal) {
    const winsize window = Window();
    std::cout << "\033[H\033[J" << TopScreen(now, before, window.ws_col, window.ws_row - 1) << std::flush;
    return;
  }
  const GetStatusResponse& s = now.status;
  std::string line = s.phase() == FINISHED || s.phase() == FAILED ? PhaseName(s.phase()) + (s.message().empty() ? "" : ": " + s.message())
                                                                  : ProgressLine(s, 0);
  if (const std::string staleness = StalenessLine(s); !staleness.empty()) line += "  " + staleness;
  std::cout << line << std::endl;
}

void Sleep(TimeMs ms) {
  for (TimeMs slept = 0; slept < ms && g_stop == 0; slept += 50) std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

// The exit status; *why is said below the ordinary screen.
int Watch(const StatusClient& client, bool terminal, std::string* why) {
  std::optional<Observation> before;
  for (int shown = 0; g_stop == 0; ++shown) {
    if (FLAGS_count > 0 && shown == FLAGS_count) return kOk;
    auto status = client.Get(kAnswerMs);
    if (!status.ok()) {
      // A job that ends takes its scheduler with it.
      *why = before ? "the scheduler does not answer any more: the job has ended, or its scheduler died"
                    : std::string(status.status().message());
      return before ? kOk : kFailed;
    }
    Observation now{RealClock().NowMs(), *std::move(status)};
    Show(now, before ? &*before : nullptr, terminal);
    before = std::move(now);
    if (before->status.phase() == FINISHED || before->status.phase() == FAILED) {
      *why = "the job " + PhaseName(before->status.phase());
      return kOk;
    }
    if (FLAGS_count == 0 || shown + 1 < FLAGS_count) Sleep(FLAGS_interval_ms);
  }
  return kOk;
}

int RunTop(const Arguments& arguments) {
  if (FLAGS_scheduler.empty() || !arguments.positional.empty()) {
    std::cerr << "usage: tidegate top --scheduler=HOST:PORT\n";
    return kUsage;
  }
  if (absl::Status s = CheckAddress(FLAGS_scheduler); !s.ok()) {
    std::cerr << "tidegate top: " << s.message() << "\n";
    return kUsage;
  }
  for (const int signal : {SIGINT, SIGTERM}) ::signal(signal, [](int) { g_stop = 1; });
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  if (terminal) std::cout << kAlternateScreen << std::flush;
  std::string why;
  const int code = Watch(StatusClient(FLAGS_scheduler), terminal, &why);
  if (terminal) std::cout << kOrdinaryScreen << std::flush;
  if (!why.empty()) std::cerr << "tidegate top: " << why << "\n";
  return code;
}

}  // namespace

Command TopCommand() {
  return {"top",
          "",
          "a live view of a running job: members, rates, staleness, loss, what limits it",
          {{"scheduler", "HOST:PORT[,...]", "the scheduler, or several of which one leads"},
           Ranged({"interval_ms", "MS", "between two looks"}, 50, 3'600'000),
           Ranged({"count", "N", "so many looks; 0: until the job ends"}, 0, 1 << 30)},
          RunTop};
}

}  // namespace tidegate::cli
