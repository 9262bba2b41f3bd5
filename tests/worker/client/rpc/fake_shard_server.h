#pragma once
// A ShardService on loopback that keeps rows in a map and counts what it sees; a test may make it refuse,
// hold or drop. Rows are keys' values at first; a push subtracts. Applies each sequence once.

#include <grpcpp/grpcpp.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "proto/shard_service.grpc.pb.h"

namespace tidegate {

class FakeShardServer final : public ShardService::Service {
 public:
  explicit FakeShardServer(int port = 0) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(),
                             &port_);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeShardServer() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // What to do with the next messages, one each; then all are answered.
  enum class Fault { kNone, kBreakBefore, kBreakAfter, kUnavailable, kSilent, kRejoin };
  void Plan(std::vector<Fault> faults) {
    std::lock_guard lock(mutex_);
    faults_.assign(faults.rbegin(), faults.rend());
  }
  float Row(uint64_t key) {
    std::lock_guard lock(mutex_);
    return Find(key);
  }
  std::vector<ClockRequest> clocks() {
    std::lock_guard lock(mutex_);
    return clocks_;
  }
  int streams() {
    std::lock_guard lock(mutex_);
    return streams_;
  }

  grpc::Status Stream(grpc::ServerContext*,
                      grpc::ServerReaderWriter<StreamResponse, StreamRequest>* io) override {
    {
      std::lock_guard lock(mutex_);
      ++streams_;
    }
    StreamRequest request;
    while (io->Read(&request)) {
      const Fault fault = NextFault();
      if (fault == Fault::kSilent) continue;
      if (fault == Fault::kBreakBefore) return {grpc::StatusCode::UNAVAILABLE, "broke"};
      StreamResponse response;
      response.set_call(request.call());
      if (fault == Fault::kUnavailable || fault == Fault::kRejoin) {
        response.set_code(fault == Fault::kRejoin ? grpc::StatusCode::FAILED_PRECONDITION
                                                  : grpc::StatusCode::UNAVAILABLE);
        response.set_error(fault == Fault::kRejoin ? "rejoin" : "busy");
      } else {
        Answer(request, &response);
      }
      if (fault == Fault::kBreakAfter) return {grpc::StatusCode::UNAVAILABLE, "broke"};
      if (!io->Write(response)) break;
    }
    return grpc::Status::OK;
  }

 private:
  Fault NextFault() {
    std::lock_guard lock(mutex_);
    if (faults_.empty()) return Fault::kNone;
    const Fault f = faults_.back();
    faults_.pop_back();
    return f;
  }
  float& Find(uint64_t key) {
    return rows_.emplace(key, static_cast<float>(key)).first->second;
  }
  void Answer(const StreamRequest& request, StreamResponse* response) {
    std::lock_guard lock(mutex_);
    if (request.has_pull()) {
      for (const TableKeys& t : request.pull().tables()) {
        TableRows* rows = response->mutable_pull()->add_tables();
        rows->set_table(t.table());
        for (size_t i = 0; i + 8 <= t.keys().size(); i += 8) {
          uint64_t key;
          std::memcpy(&key, t.keys().data() + i, 8);
          rows->mutable_values()->append(reinterpret_cast<const char*>(&Find(key)), 4);
        }
      }
      response->mutable_pull()->set_min_clock(request.pull().bound());
    } else if (request.has_push()) {
      const bool fresh = applied_.insert(request.push().sequence()).second;
      response->mutable_push();
      for (const TableGradients& t : request.push().tables()) {
        for (size_t i = 0; fresh && i * 8 + 8 <= t.keys().size(); ++i) {
          uint64_t key;
          float g;
          std::memcpy(&key, t.keys().data() + i * 8, 8);
          std::memcpy(&g, t.values().data() + i * 4, 4);
          Find(key) -= g;
        }
      }
    } else {
      clocks_.push_back(request.clock());
      response->mutable_clock()->set_min_clock(4);
    }
  }

  std::mutex mutex_;
  std::map<uint64_t, float> rows_;
  std::set<uint64_t> applied_;
  std::vector<ClockRequest> clocks_;
  std::vector<Fault> faults_;
  int streams_ = 0;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace tidegate
