// "--set path=value".
#include <charconv>
#include <optional>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/job_config/check.h"
#include "common/job_config/job_config.h"
#include "common/strings.h"

namespace tidegate {
namespace {

namespace pb = google::protobuf;

absl::Status Bad(std::string_view text, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("--set ", ToAbsl(text), ": ", what));
}

std::vector<std::string> FieldNames(const pb::Descriptor& d) {
  std::vector<std::string> names;
  for (int i = 0; i < d.field_count(); ++i) names.push_back(d.field(i)->name());
  return names;
}

std::string ElementName(const pb::Message& m) {
  const pb::FieldDescriptor* f = m.GetDescriptor()->FindFieldByName("name");
  if (f == nullptr || f->cpp_type() != pb::FieldDescriptor::CPPTYPE_STRING || f->is_repeated()) {
    return "";
  }
  return m.GetReflection()->GetString(m, f);
}

// The element of repeated message field `f` that `segment` names by index or name.
absl::StatusOr<pb::Message*> Element(std::string_view text, pb::Message* message,
                                     const pb::FieldDescriptor* f, const std::string& segment) {
  const pb::Reflection* r = message->GetReflection();
  const int size = r->FieldSize(*message, f);
  int index = -1;
  const char* end = segment.data() + segment.size();
  const auto parsed = std::from_chars(segment.data(), end, index);
  if (parsed.ec == std::errc() && parsed.ptr == end) {
    if (index >= 0 && index < size) return r->MutableRepeatedMessage(message, f, index);
    return Bad(text, absl::StrCat(f->name(), " has ", size, " elements, no number ", segment));
  }
  std::vector<std::string> names;
  for (int i = 0; i < size; ++i) {
    names.push_back(ElementName(r->GetRepeatedMessage(*message, f, i)));
    if (names.back() == segment) return r->MutableRepeatedMessage(message, f, i);
  }
  return Bad(text, absl::StrCat("no ", f->name(), " is named \"", segment, "\"",
                                DidYouMean(segment, names)));
}

absl::Status SetField(std::string_view text, pb::Message* message, const pb::FieldDescriptor* f,
                      std::string_view value) {
  message->GetReflection()->ClearField(message, f);
  std::string assignment;
  const bool is_string = f->cpp_type() == pb::FieldDescriptor::CPPTYPE_STRING;
  const bool literal = !value.empty() && (value[0] == '"' || value[0] == '\'' ||
                                          (f->is_repeated() && value[0] == '['));
  if (f->message_type() != nullptr) {
    if (value.empty() || (value[0] != '{' && value[0] != '[')) {
      return Bad(text, absl::StrCat(f->name(), " is a message: write {...} or name a field of it"));
    }
    assignment = absl::StrCat(f->name(), " ", value[0] == '[' ? ":" : "", ToAbsl(value));
  } else if (is_string && !literal) {
    assignment = absl::StrCat(f->name(), ": \"", absl::CEscape(ToAbsl(value)), "\"");
  } else {
    assignment = absl::StrCat(f->name(), ": ", ToAbsl(value));
  }
  absl::Status status =
      ParseTextInto(assignment, absl::StrCat("--set ", ToAbsl(text)), message, /*merge=*/true);
  return status;
}

}  // namespace

absl::Status ApplyOverride(std::string_view override_text, JobConfig* config) {
  const size_t equals = override_text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return Bad(override_text, "expected path=value, as train.epochs=3");
  }
  const std::vector<std::string> path =
      absl::StrSplit(ToAbsl(override_text.substr(0, equals)), '.');
  const std::string_view value = override_text.substr(equals + 1);
  pb::Message* message = config;
  for (size_t i = 0; i < path.size(); ++i) {
    const pb::Descriptor& d = *message->GetDescriptor();
    const pb::FieldDescriptor* f = d.FindFieldByName(path[i]);
    if (f == nullptr) {
      return Bad(override_text, absl::StrCat("no field \"", path[i], "\" in ", d.name(),
                                             DidYouMean(path[i], FieldNames(d))));
    }
    if (i + 1 == path.size()) return SetField(override_text, message, f, value);
    if (f->message_type() == nullptr) {
      return Bad(override_text, absl::StrCat(f->name(), " has no fields"));
    }
    if (!f->is_repeated()) {
      message = message->GetReflection()->MutableMessage(message, f);
      continue;
    }
    if (i + 2 == path.size()) {
      return Bad(override_text, absl::StrCat("name a field of ", path[i], ".", path[i + 1]));
    }
    auto element = Element(override_text, message, f, path[++i]);
    if (!element.ok()) return element.status();
    message = *element;
  }
  return absl::OkStatus();
}

}  // namespace tidegate
