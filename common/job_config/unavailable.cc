// Fields and enum values of the schema that this version does not serve: using one is a problem, never
// silently ignored. Whoever makes one work takes its line out.
#include <set>

#include "absl/strings/str_cat.h"
#include "common/job_config/check.h"

namespace tidegate {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

const std::set<std::string>& Unavailable() {
  static const auto* names = new std::set<std::string>{
      // fields
      "tidegate.TrainConfig.init_from",
      // enum values: none now
  };
  return *names;
}

void Report(const std::string& name, std::string_view what, std::vector<std::string>* problems) {
  if (Unavailable().count(name) != 0) problems->push_back(absl::StrCat(std::string(what), " is not in this version"));
}

void Walk(const Message& message, const std::string& at, std::vector<std::string>* problems) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string path = at.empty() ? field->name() : absl::StrCat(at, ".", field->name());
    Report(field->full_name(), path, problems);
    const int n = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < n; ++i) {
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        Walk(field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i) : reflection.GetMessage(message, field),
             path, problems);
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
        const EnumValueDescriptor* value =
            field->is_repeated() ? reflection.GetRepeatedEnum(message, field, i) : reflection.GetEnum(message, field);
        Report(value->full_name(), absl::StrCat(path, ": ", value->name()), problems);
      }
    }
  }
}

}  // namespace

void CheckAvailable(const JobConfig& config, std::vector<std::string>* problems) { Walk(config, "", problems); }

}  // namespace tidegate
