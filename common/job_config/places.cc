#include "common/job_config/places.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/job_config/places_written.h"
#include "common/strings.h"

namespace tidegate {
namespace {

namespace pb = google::protobuf;

bool Take(std::string_view prefix, std::string_view* text) {
  if (text->substr(0, prefix.size()) != prefix) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// `written`, which may hold a range as "C{1..26}", stands for `name`.
bool StandsFor(const std::string& written, std::string_view name) {
  if (written == name) return true;
  const size_t open = written.find('{'), close = written.find('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return false;
  const size_t suffix = written.size() - close - 1;
  if (name.size() <= open + suffix || name.substr(0, open) != std::string_view(written).substr(0, open) ||
      name.substr(name.size() - suffix) != std::string_view(written).substr(close + 1)) {
    return false;
  }
  const std::string_view middle = name.substr(open, name.size() - open - suffix);
  int64_t number = 0, first = 0, last = 0;
  const auto whole = std::from_chars(middle.data(), middle.data() + middle.size(), number);
  const auto from = std::from_chars(written.data() + open + 1, written.data() + close, first);
  if (whole.ec != std::errc() || whole.ptr != middle.data() + middle.size() || from.ec != std::errc()) return false;
  const char* dots = from.ptr;
  while (dots != written.data() + close && *dots == '.') ++dots;
  const auto to = std::from_chars(dots, written.data() + close, last);
  return to.ec == std::errc() && number >= first && number <= last;
}

std::string NameOf(const pb::Message& m) {
  const pb::FieldDescriptor* f = m.GetDescriptor()->FindFieldByName("name");
  return f == nullptr ? "" : m.GetReflection()->GetString(m, f);
}

// Goes down the config as far as a problem's text says.
class Walk {
 public:
  Walk(const pb::Message& config, const pb::TextFormat::ParseInfoTree& tree) : message_(&config), tree_(&tree) {}

  void Follow(std::string_view problem) {
    last_ = problem.find(" is there twice") != problem.npos;
    while (message_ != nullptr && Element(&problem)) {
    }
    while (message_ != nullptr && Field(&problem)) {
    }
    if (message_ != nullptr && Take("input \"", &problem)) Input(problem.substr(0, problem.find('"')));
  }

  int line() const { return line_; }
  int column() const { return column_; }
  std::string path() const { return absl::StrJoin(path_, "."); }

 private:
  // `feature "C1" and 3 more (to "C4"): `
  bool Element(std::string_view* problem) {
    std::string_view rest = *problem;
    const std::string kind(rest.substr(0, rest.find(' ')));
    const pb::FieldDescriptor* in_model = nullptr;
    const pb::FieldDescriptor* field = message_->GetDescriptor()->FindFieldByName(kind);
    if (field == nullptr && message_->GetDescriptor() == JobConfig::descriptor()) {
      field = in_model = ModelConfig::descriptor()->FindFieldByName(kind);
    }
    if (field == nullptr || !field->is_repeated() || field->message_type() == nullptr) return false;
    rest.remove_prefix(std::min(rest.size(), kind.size() + 1));
    Take("name ", &rest);
    if (!Take("\"", &rest) || rest.find('"') == rest.npos) return false;
    const std::string name(rest.substr(0, rest.find('"')));
    rest.remove_prefix(name.size() + 1);
    if (Take(" and ", &rest) && rest.find(')') != rest.npos) rest.remove_prefix(rest.find(')') + 1);
    if (in_model != nullptr) Down(JobConfig::descriptor()->FindFieldByName("model"), -1);
    const int index = IndexOf(field, name);
    if (index < 0) {
      message_ = nullptr;
      return true;
    }
    Down(field, index);
    Take(":", &rest);
    Take(" ", &rest);
    *problem = rest;
    return true;
  }

  int IndexOf(const pb::FieldDescriptor* field, const std::string& name) const {
    const pb::Reflection& r = *message_->GetReflection();
    const int size = r.FieldSize(*message_, field);
    int found = -1;
    for (int i = 0; i < size && (found < 0 || last_); ++i) {
      if (StandsFor(NameOf(r.GetRepeatedMessage(*message_, field, i)), name)) found = i;
    }
    return found < 0 && size == 1 ? 0 : found;  // a task without a name has the default one
  }

  // `train.schedule.every `, one name at a time.
  bool Field(std::string_view* problem) {
    const size_t end = std::min(problem->find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789"), problem->size());
    const pb::FieldDescriptor* field = message_->GetDescriptor()->FindFieldByName(std::string(problem->substr(0, end)));
    if (field == nullptr) return false;
    const bool dotted = end < problem->size() && (*problem)[end] == '.';
    problem->remove_prefix(std::min(problem->size(), end + 1));
    Down(field, field->is_repeated() ? 0 : -1);
    if (!dotted) message_ = nullptr;
    return true;
  }

  // The input of a block's kind that has this text.
  void Input(std::string_view name) {
    const pb::OneofDescriptor* kinds = message_->GetDescriptor()->FindOneofByName("kind");
    if (kinds == nullptr) return;
    const pb::FieldDescriptor* kind = message_->GetReflection()->GetOneofFieldDescriptor(*message_, kinds);
    if (kind == nullptr) return;
    Down(kind, -1);
    const pb::Reflection& r = *message_->GetReflection();
    for (int f = 0; f < message_->GetDescriptor()->field_count(); ++f) {
      const pb::FieldDescriptor* field = message_->GetDescriptor()->field(f);
      if (field->cpp_type() != pb::FieldDescriptor::CPPTYPE_STRING) continue;
      const int size = field->is_repeated() ? r.FieldSize(*message_, field) : 1;
      for (int i = 0; i < size; ++i) {
        const std::string text = field->is_repeated() ? r.GetRepeatedString(*message_, field, i) : r.GetString(*message_, field);
        if (StandsFor(text, name)) return Down(field, field->is_repeated() ? i : -1);
      }
    }
  }

  void Down(const pb::FieldDescriptor* field, int index) {
    path_.push_back(field->name());
    const pb::Reflection& r = *message_->GetReflection();
    if (tree_ != nullptr) {
      pb::TextFormat::ParseLocation at = tree_->GetLocation(field, index);
      if (at.line < 0 && index > 0) at = tree_->GetLocation(field, 0);  // [a, b] has one place
      if (at.line >= 0) {
        line_ = at.line;
        column_ = at.column;
      }
    }
    if (field->message_type() == nullptr || (field->is_repeated() && r.FieldSize(*message_, field) <= index)) {
      message_ = nullptr;
      return;
    }
    if (tree_ != nullptr) tree_ = tree_->GetTreeForNested(field, index);
    message_ = field->is_repeated() ? &r.GetRepeatedMessage(*message_, field, index) : &r.GetMessage(*message_, field);
    if (field->is_repeated()) path_.push_back(NameOf(*message_));
  }

  const pb::Message* message_;
  const pb::TextFormat::ParseInfoTree* tree_;  // null: not in the text
  bool last_ = false;                          // of elements with one name
  int line_ = -1, column_ = -1;
  std::vector<std::string> path_;
};

}  // namespace

ConfigPlaces::ConfigPlaces(std::string file) : file_(std::move(file)) {}

std::string ConfigPlaces::PlaceOf(std::string_view problem) const {
  if (written_ == nullptr) return file_;
  Walk walk(written_->config, written_->tree);
  walk.Follow(problem);
  const std::string path = walk.path();
  for (const std::string& override_text : written_->overrides) {
    const std::string set = override_text.substr(0, override_text.find('='));
    if (path == set || path.substr(0, set.size() + 1) == set + ".") return "--set " + override_text;
  }
  return walk.line() < 0 ? file_ : absl::StrCat(file_, ":", walk.line() + 1, ":", walk.column() + 1);
}

std::string ConfigPlaces::Placed(std::string_view problems) const {
  std::vector<std::string> lines;
  for (const auto& problem : absl::StrSplit(ToAbsl(problems), '\n')) {
    const std::string text(problem);
    std::string line = absl::StrCat(PlaceOf(text), ": ", text);
    if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(std::move(line));
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace tidegate
