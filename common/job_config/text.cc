// Text format in and out, with errors that carry line, column and the nearest field name.
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/job_config/check.h"
#include "common/job_config/job_config.h"
#include "common/job_config/places_written.h"
#include "common/stable_hash.h"
#include "common/strings.h"

namespace tidegate {
namespace {

namespace pb = google::protobuf;

constexpr size_t kMaxConfigBytes = 4 << 20;
constexpr int kMaxNesting = 64;
constexpr size_t kMaxErrors = 50;

std::vector<std::string> FieldNames(const std::string& message_type) {
  std::vector<std::string> names;
  const pb::Descriptor* d =
      pb::DescriptorPool::generated_pool()->FindMessageTypeByName(message_type);
  if (d == nullptr) return names;
  for (int i = 0; i < d->field_count(); ++i) names.push_back(d->field(i)->name());
  return names;
}

// The fields of a message that have a field of this name themselves: "train { ... } or valid { ... }".
std::string InsideOf(const std::string& message_type, const std::string& field) {
  const pb::Descriptor* d = pb::DescriptorPool::generated_pool()->FindMessageTypeByName(message_type);
  std::vector<std::string> places;
  for (int i = 0; d != nullptr && i < d->field_count(); ++i) {
    const pb::Descriptor* inner = d->field(i)->message_type();
    if (inner == nullptr || inner->FindFieldByName(field) == nullptr) continue;
    places.push_back(absl::StrCat(d->field(i)->name(), " { ", field, ": ... }"));
  }
  return absl::StrJoin(places, ", ");
}

// The values of the enum that a field has. The parser names the field, not its message: where fields of one
// name have several enums, those of the one with the value nearest to `value`.
std::vector<std::string> EnumNames(const std::string& field_name, const std::string& value) {
  std::vector<std::vector<std::string>> enums;
  std::vector<const pb::Descriptor*> stack = {JobConfig::descriptor()};
  std::vector<const pb::Descriptor*> seen;
  while (!stack.empty()) {
    const pb::Descriptor* d = stack.back();
    stack.pop_back();
    if (std::find(seen.begin(), seen.end(), d) != seen.end()) continue;
    seen.push_back(d);
    for (int i = 0; i < d->field_count(); ++i) {
      const pb::FieldDescriptor* f = d->field(i);
      if (f->message_type() != nullptr) stack.push_back(f->message_type());
      if (f->enum_type() == nullptr || f->name() != field_name) continue;
      std::vector<std::string>& names = enums.emplace_back();
      for (int k = 0; k < f->enum_type()->value_count(); ++k) {
        names.push_back(f->enum_type()->value(k)->name());
      }
    }
  }
  std::vector<std::string> all;
  for (const auto& names : enums) all.insert(all.end(), names.begin(), names.end());
  const std::string nearest = NearestName(value, all);
  if (nearest.empty()) return all;
  return *std::find_if(enums.begin(), enums.end(), [&](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), nearest) != names.end();
  });
}

// The text between the n-th pair of quotes (from 0).
std::string Quoted(const std::string& message, int n) {
  size_t at = 0;
  for (int i = 0; i < 2 * n; ++i) {
    at = message.find('"', at);
    if (at == std::string::npos) return "";
    ++at;
  }
  const size_t begin = message.find('"', at);
  if (begin == std::string::npos) return "";
  const size_t end = message.find('"', begin + 1);
  if (end == std::string::npos) return "";
  return message.substr(begin + 1, end - begin - 1);
}

std::string Improve(const std::string& message) {
  if (message.find("has no field named") != std::string::npos) {
    const std::string type = Quoted(message, 0);
    const std::string field = Quoted(message, 1);
    const std::string short_type = type.substr(type.rfind('.') + 1);
    const std::string inside = InsideOf(type, field);
    return absl::StrCat("no field \"", field, "\" in ", short_type,
                        inside.empty() ? DidYouMean(field, FieldNames(type)) : absl::StrCat(" (it is in ", inside, ")"));
  }
  if (message.find("Unknown enumeration value") != std::string::npos) {
    const std::string value = Quoted(message, 0);
    const std::string field = Quoted(message, 1);
    const std::vector<std::string> names = EnumNames(field, value);
    return absl::StrCat("no value \"", value, "\" of field \"", field, "\"", DidYouMean(value, names),
                        names.empty() ? "" : absl::StrCat("; one of ", absl::StrJoin(names, ", ")));
  }
  return message;
}

// What a terminal should not get: the parser quotes the bytes of a file that is no text.
std::string Printable(const std::string& message) {
  std::string out;
  for (const char c : message) {
    const bool plain = static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f;
    out += plain ? std::string(1, c) : absl::CHexEscape(absl::string_view(&c, 1));
  }
  return out;
}

class Collector final : public pb::io::ErrorCollector {
 public:
  explicit Collector(std::string file) : file_(std::move(file)) {}
  void AddError(int line, pb::io::ColumnNumber column, const std::string& message) override {
    Add(line, column, message);
  }
  // Unknown fields come as warnings, so that one run finds all of them.
  void AddWarning(int line, pb::io::ColumnNumber column, const std::string& message) override {
    Add(line, column, message);
  }
  const std::vector<std::string>& errors() const { return errors_; }

 private:
  void Add(int line, int column, const std::string& message) {
    if (errors_.size() >= kMaxErrors) return;
    const std::string where =
        line < 0 ? file_ : absl::StrCat(file_, ":", line + 1, ":", column + 1);
    errors_.push_back(absl::StrCat(where, ": ", Printable(Improve(message))));
  }
  std::string file_;
  std::vector<std::string> errors_;
};

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string NearestName(std::string_view name, const std::vector<std::string>& candidates) {
  if (name.size() > 200) return "";
  std::string best;
  size_t best_distance = name.size() / 2 + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > 200) continue;
    const size_t distance = EditDistance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string nearest = NearestName(name, candidates);
  return nearest.empty() ? "" : absl::StrCat(" (did you mean \"", nearest, "\"?)");
}

absl::Status ParseTextInto(std::string_view text, std::string_view file_name,
                           google::protobuf::Message* message, bool merge,
                           pb::TextFormat::ParseInfoTree* places) {
  if (text.size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(file_name), ": ", text.size(),
                                                   " bytes are more than a config may have (",
                                                   kMaxConfigBytes, ")"));
  }
  Collector collector{std::string(file_name)};
  pb::TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  parser.AllowUnknownField(true);
  if (places != nullptr) parser.WriteLocationsTo(places);
  parser.SetRecursionLimit(kMaxNesting);
  pb::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  const bool parsed = merge ? parser.Merge(&stream, message) : parser.Parse(&stream, message);
  if (parsed && collector.errors().empty()) return absl::OkStatus();
  if (collector.errors().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(file_name), ": is no text-format protobuf"));
  }
  return absl::InvalidArgumentError(absl::StrJoin(collector.errors(), "\n"));
}

struct DraftParser {
  static absl::StatusOr<JobConfigDraft> Run(std::string_view text, std::string_view file_name,
                                            std::span<const std::string> overrides) {
    JobConfigDraft draft;
    auto written = std::make_shared<ConfigPlaces::Written>();
    absl::Status status = ParseTextInto(text, file_name, &draft.config, /*merge=*/false, &written->tree);
    for (size_t i = 0; status.ok() && i < overrides.size(); ++i) status = ApplyOverride(overrides[i], &draft.config);
    if (!status.ok()) return status;
    written->config = draft.config;
    written->overrides.assign(overrides.begin(), overrides.end());
    draft.places = ConfigPlaces(std::string(file_name));
    draft.places.written_ = std::move(written);
    draft.problems = ResolveProblems(&draft.config, &draft.expanded);
    return draft;
  }
};

namespace {
absl::StatusOr<JobConfig> WithoutProblems(absl::StatusOr<JobConfigDraft> draft) {
  if (!draft.ok()) return draft.status();
  if (draft->problems.empty()) return std::move(draft->config);
  return absl::InvalidArgumentError(draft->places.Placed(absl::StrJoin(draft->problems, "\n")));
}
}  // namespace

absl::StatusOr<JobConfigDraft> ParseJobConfigDraft(std::string_view text, std::string_view file_name,
                                                   std::span<const std::string> overrides) {
  return DraftParser::Run(text, file_name, overrides);
}

absl::StatusOr<JobConfig> ParseJobConfig(std::string_view text, std::string_view file_name,
                                         std::span<const std::string> overrides) {
  return WithoutProblems(ParseJobConfigDraft(text, file_name, overrides));
}

absl::StatusOr<JobConfig> LoadJobConfig(const std::string& path, std::span<const std::string> overrides) {
  return WithoutProblems(LoadJobConfigDraft(path, overrides));
}

absl::StatusOr<JobConfigDraft> LoadJobConfigDraft(const std::string& path, std::span<const std::string> overrides) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return absl::NotFoundError(absl::StrCat("config ", path, ": no such file"));
  }
  if (std::filesystem::is_directory(status)) {
    return absl::InvalidArgumentError(absl::StrCat("config ", path, ": is a directory"));
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxConfigBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || (!in && !in.eof())) {
    return absl::NotFoundError(absl::StrCat("config ", path, ": cannot be read"));
  }
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat("config ", path, ": is empty"));
  return ParseJobConfigDraft(text, path, overrides);
}

std::string JobConfigText(const JobConfig& config) {
  std::string text;
  pb::TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);
  printer.PrintToString(config, &text);
  return text;
}

uint64_t JobConfigFingerprint(const JobConfig& resolved) {
  std::string bytes;
  {
    pb::io::StringOutputStream stream(&bytes);
    pb::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    resolved.SerializeToCodedStream(&coded);
  }
  return StableHash(bytes);
}

}  // namespace tidegate
