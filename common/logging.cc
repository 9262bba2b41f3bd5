#include "common/logging.h"

#include <glog/logging.h>

namespace tidegate {
namespace {
std::string& RolePrefix() {
  static std::string* prefix = new std::string;
  return *prefix;
}
}  // namespace

void InitLogging(const char* argv0, const std::string& role) {
  FLAGS_logtostderr = true;
  RolePrefix() = role.empty() ? "" : "[" + role + "] ";
  google::InitGoogleLogging(argv0);
}

namespace internal {
LogLine::~LogLine() {
  static constexpr google::LogSeverity kLevels[] = {google::GLOG_INFO, google::GLOG_WARNING,
                                                    google::GLOG_ERROR, google::GLOG_FATAL};
  google::LogMessage(file_, line_, kLevels[static_cast<int>(severity_)]).stream()
      << RolePrefix() << stream_.str();
}
}  // namespace internal
}  // namespace tidegate
