#include "common/executor/trace.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <catch2/catch.hpp>
#include <thread>

namespace tidegate {
namespace {

google::protobuf::ListValue Parsed(const std::string& events) {
  google::protobuf::ListValue list;
  const auto status = google::protobuf::util::JsonStringToMessage("[" + events + "]", &list);
  INFO(status.ToString());
  REQUIRE(status.ok());
  return list;
}

TEST_CASE("off, nothing is kept; on, spans of the wanted clocks are, with their thread and time") {
  CHECK_FALSE(Trace::Wants(0));
  { const TraceSpan span("early", 0); }
  CHECK(Trace::Events().empty());

  Trace::Start("worker \"1\"", 3);
  CHECK(Trace::Wants(2));
  CHECK_FALSE(Trace::Wants(3));
  CHECK_FALSE(Trace::Wants(-1));
  {
    const TraceSpan outer("step", 2);
    const TraceSpan inner("compute", 2);
    const TraceSpan late("late", 3);
  }
  std::thread([] { const TraceSpan span("elsewhere", 0); }).join();
  Trace::AddAsync("pull", 1, 10, 40);
  const auto events = Parsed(Trace::Events());
  REQUIRE(events.values_size() == 6);  // the process's name, three spans, a beginning and an end
  const auto field = [&](int i, const char* name) { return events.values(i).struct_value().fields().at(name); };
  CHECK(field(0, "args").struct_value().fields().at("name").string_value() == "worker \"1\"");
  CHECK(field(1, "name").string_value() == "compute");  // ended first
  CHECK(field(2, "name").string_value() == "step");
  CHECK(field(2, "ts").number_value() <= field(1, "ts").number_value());
  CHECK(field(2, "ts").number_value() + field(2, "dur").number_value() >= field(1, "ts").number_value() + field(1, "dur").number_value());
  CHECK(field(3, "tid").number_value() != field(2, "tid").number_value());
  CHECK(field(4, "ph").string_value() == "b");
  CHECK(field(5, "ts").number_value() == 40);
  CHECK(field(5, "id").number_value() == field(4, "id").number_value());
}

}  // namespace
}  // namespace tidegate
