#include "common/job_config/same_job.h"

#include <google/protobuf/util/message_differencer.h>

namespace tidegate {
namespace {

JobConfig WithoutFree(JobConfig job) {
  job.clear_cluster();
  job.mutable_data()->clear_max_bad_lines();
  TrainConfig* train = job.mutable_train();
  train->clear_epochs();
  train->clear_checkpoint();
  train->clear_stall_timeout_s();
  return job;
}

}  // namespace

std::string JobDifferences(const JobConfig& before, const JobConfig& now) {
  return ConfigDifferences(WithoutFree(before), WithoutFree(now));
}

std::string ConfigDifferences(const JobConfig& before, const JobConfig& now) {
  std::string report;
  google::protobuf::util::MessageDifferencer differencer;
  // A field that says its default is one that is not there.
  differencer.set_message_field_comparison(google::protobuf::util::MessageDifferencer::EQUIVALENT);
  differencer.ReportDifferencesToString(&report);
  return differencer.Compare(before, now) ? "" : report;
}

}  // namespace tidegate
