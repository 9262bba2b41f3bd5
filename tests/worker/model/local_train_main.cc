// local_train CONFIG [path=value ...] [--delay=N]: a line per epoch.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/job_config/job_config.h"
#include "tests/worker/model/local_trainer.h"

int main(int argc, char** argv) {
  using tidegate::LocalTrainer;
  if (argc < 2) {
    std::fprintf(stderr, "usage: local_train CONFIG [path=value ...] [--delay=N]\n");
    return 2;
  }
  std::vector<std::string> overrides;
  int delay = 0;
  for (int i = 2; i < argc; ++i) {
    const std::string a = argv[i];
    if (a.rfind("--delay=", 0) == 0) {
      delay = std::atoi(a.c_str() + 8);
    } else {
      overrides.push_back(a);
    }
  }
  auto config = tidegate::LoadJobConfig(argv[1], overrides);
  if (!config.ok()) {
    std::fprintf(stderr, "%s\n", config.status().ToString().c_str());
    return 1;
  }
  auto trainer = LocalTrainer::Create(*config, delay);
  if (!trainer.ok()) {
    std::fprintf(stderr, "%s\n", trainer.status().ToString().c_str());
    return 1;
  }
  if (config->data().format() == tidegate::DataConfig::GENERATED && config->data().has_valid()) {
    auto generator = tidegate::Generator::Create(config->data().generator());
    const auto& valid = config->data().valid();
    auto best = generator->Attainable(valid.first_row(), valid.first_row() + valid.rows());
    if (best.ok()) std::printf("attainable: valid auc %.5f logloss %.4f\n", best->auc, best->logloss);
  }
  double best = 0;
  uint32_t since_best = 0;
  for (uint32_t e = 1; e <= config->train().epochs(); ++e) {
    const auto start = std::chrono::steady_clock::now();
    auto report = (*trainer)->TrainEpoch();
    if (!report.ok()) {
      std::fprintf(stderr, "%s\n", report.status().ToString().c_str());
      return 1;
    }
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("epoch %u lr x%g train loss %.4f", e, report->lr_scale, report->train_loss);
    for (const auto& m : report->valid) {
      std::printf("  valid auc %.5f logloss %.4f calibration %.3f", m.auc, m.logloss, m.calibration);
    }
    std::printf("  %.1f s, model %.1f s, %llu samples\n", s, report->compute_s,
                static_cast<unsigned long long>(report->samples));
    std::fflush(stdout);
    if (report->valid.empty()) continue;
    if (report->valid[0].auc > best) {
      best = report->valid[0].auc;
      since_best = 0;
    } else if (config->train().has_stop() && ++since_best >= config->train().stop().patience()) {
      break;
    }
  }
  std::printf("best auc %.5f\n", best);
  return 0;
}
