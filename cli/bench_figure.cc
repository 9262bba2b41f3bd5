#include "cli/bench_figure.h"

#include <cmath>

#include "absl/strings/str_format.h"
#include "cli/json.h"

namespace tidegate::cli {
namespace {
double OrNan(double value) { return value > 0 ? value : NAN; }
}  // namespace

std::string FigureJson(const BenchFigure& figure) {
  return JsonObject()
      .Text("name", figure.name)
      .Number("value", figure.value)
      .Text("unit", figure.unit)
      .Number("ceiling", OrNan(figure.ceiling))
      .Number("ratio", figure.ceiling > 0 ? figure.value / figure.ceiling : NAN)
      .Number("cpu_us_per_unit", OrNan(figure.cpu_us_per_unit))
      .Number("cpu_us_per_unit_least", OrNan(figure.cpu_us_per_unit_least))
      .Build();
}

std::string FigureLine(const BenchFigure& figure) {
  std::string out = absl::StrFormat("%-34s %10.4g %-12s", figure.name, figure.value, figure.unit);
  if (figure.ceiling > 0) {
    absl::StrAppendFormat(&out, "  ceiling %8.4g  ratio %5.2f", figure.ceiling, figure.value / figure.ceiling);
  }
  if (figure.cpu_us_per_unit > 0) absl::StrAppendFormat(&out, "  cpu %.3f us/unit", figure.cpu_us_per_unit);
  if (figure.cpu_us_per_unit_least > 0) {
    absl::StrAppendFormat(&out, " (least %.3f)", figure.cpu_us_per_unit_least);
  }
  return out;
}

}  // namespace tidegate::cli
