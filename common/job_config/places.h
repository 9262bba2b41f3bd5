#pragma once
// Where in a job config's text a problem is. Immutable, cheap to copy; thread-safe.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace tidegate {

class ConfigPlaces {
 public:
  // No text: every place is `file` alone.
  explicit ConfigPlaces(std::string file = "");

  // Each line of `problems` with its place in front: "job.textproto:12:3: ", "job.textproto: " where the text has
  // no such field, "--set train.epochs=x: " where an override set it. Lines name the field as the checks do:
  //   feature "C1": table "embb" does not exist      block "deep": input "x" is no ...      train.epochs is 0; ...
  // A line that is there twice stays once.
  std::string Placed(std::string_view problems) const;

 private:
  friend struct DraftParser;
  struct Written;  // the config as written, with overrides, and the places of its fields
  std::string PlaceOf(std::string_view problem) const;

  std::string file_;
  std::shared_ptr<const Written> written_;
};

// A config that may have problems, for those who look for more of them: `problems` are without places.
struct JobConfigDraft {
  JobConfig config;       // resolved where there are no problems
  bool expanded = false;  // features and inputs are those of a resolved config: a graph can be planned
  ConfigPlaces places;
  std::vector<std::string> problems;
};
// As LoadJobConfig and ParseJobConfig; an error only where there is no config at all.
absl::StatusOr<JobConfigDraft> LoadJobConfigDraft(const std::string& path, std::span<const std::string> overrides = {});
absl::StatusOr<JobConfigDraft> ParseJobConfigDraft(std::string_view text, std::string_view file_name,
                                                   std::span<const std::string> overrides = {});

}  // namespace tidegate
