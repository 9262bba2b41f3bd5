#include "scheduler/rpc/status_page.h"

#include <string>

#include "common/status_json.h"

namespace tidegate {
namespace {

constexpr char kHtml[] =
#include "scheduler/web/status_html.inc"
    ;

}  // namespace

void StatusPage::Observe() {
  const TimeMs now = clock_->NowMs();
  {
    std::lock_guard lock(mutex_);
    if (!history_.Due(now)) return;
  }
  const GetStatusResponse status = loop_->Status();
  std::lock_guard lock(mutex_);
  history_.Add(now, status);
}

std::string StatusPage::Json() {
  JsonObject object = StatusObject(loop_->Status());
  object.Number("at", static_cast<double>(clock_->NowMs()) / 1000);
  std::lock_guard lock(mutex_);
  return object.Raw("history", history_.Json()).Build();
}

std::vector<HttpPage> StatusPage::Pages() {
  return {{"/", "text/html; charset=utf-8", [] { return std::string(kHtml); }},
          {"/api/status", "application/json", [this] { return Json(); }}};
}

}  // namespace tidegate
