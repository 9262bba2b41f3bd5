#pragma once
// One line of `tidegate bench`: a figure beside its ceiling, measured in the same run.

#include <iosfwd>
#include <string>

namespace tidegate::cli {

struct BenchFigure {
  std::string name;
  double value = 0;
  std::string unit;
  double ceiling = 0;          // 0: none
  double cpu_us_per_unit = 0;  // 0: not measured
  double cpu_us_per_unit_least = 0;  // of the turns whose median that is
};

// {"name", "value", "unit", "ceiling", "ratio", "cpu_us_per_unit", "cpu_us_per_unit_least"}; what is not there is null.
std::string FigureJson(const BenchFigure& figure);
std::string FigureLine(const BenchFigure& figure);

}  // namespace tidegate::cli
