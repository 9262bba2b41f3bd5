#include "scheduler/rpc/etcd_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <atomic>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/rpc/channel.h"
#include "third_party/etcd/rpc.grpc.pb.h"

namespace tidegate {
namespace {

using etcdserverpb::Compare;

struct Endpoint {
  explicit Endpoint(const std::string& at)
      : address(at),
        channel(MakeControlChannel(at)),
        kv(etcdserverpb::KV::NewStub(channel)),
        lease(etcdserverpb::Lease::NewStub(channel)) {}
  const std::string address;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<etcdserverpb::KV::Stub> kv;
  const std::unique_ptr<etcdserverpb::Lease::Stub> lease;
};

Compare* AddCompare(const std::string& key, etcdserverpb::TxnRequest* request) {
  Compare* compare = request->add_compare();
  compare->set_key(key);
  compare->set_result(Compare::EQUAL);
  return compare;
}

int64_t CreateRevisionOf(const etcdserverpb::ResponseOp& op) {
  return op.response_range().kvs().empty() ? 0 : op.response_range().kvs(0).create_revision();
}

}  // namespace

struct EtcdClient::Impl {
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  std::atomic<size_t> current{0};
  TimeMs call_ms;

  // `call` gets an Endpoint and a context, and returns a grpc::Status.
  template <typename F>
  absl::Status Call(TimeMs timeout_ms, F call) {
    size_t index = current;
    Endpoint& endpoint = *endpoints[index];
    endpoint.channel->GetState(true);  // a channel that has failed is not left lying
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_ms));
    context.AddMetadata("hasleader", "true");  // a node that is cut off from the others refuses at once
    const grpc::Status status = call(endpoint, &context);
    if (status.ok()) return absl::OkStatus();
    const auto code = static_cast<absl::StatusCode>(status.error_code());
    // The others may do better; etcd's own refusals are the same everywhere.
    if (code != absl::StatusCode::kInvalidArgument && code != absl::StatusCode::kNotFound &&
        code != absl::StatusCode::kOutOfRange) {
      current.compare_exchange_strong(index, (index + 1) % endpoints.size());
    }
    return absl::Status(code, absl::StrCat("etcd at ", endpoint.address, ": ", status.error_message()));
  }
  absl::StatusOr<etcdserverpb::TxnResponse> Txn(const etcdserverpb::TxnRequest& request, size_t failure_ops) {
    etcdserverpb::TxnResponse response;
    const absl::Status status = Call(2 * call_ms, [&](Endpoint& endpoint, grpc::ClientContext* context) {
      return endpoint.kv->Txn(context, request, &response);
    });
    if (!status.ok()) return status;
    if (!response.succeeded() && static_cast<size_t>(response.responses_size()) != failure_ops) {
      return absl::InternalError("etcd answers a transaction with the wrong number of results");
    }
    return response;
  }
};

EtcdClient::EtcdClient(const std::vector<std::string>& endpoints, TimeMs call_ms) : impl_(std::make_unique<Impl>()) {
  for (const std::string& address : endpoints) impl_->endpoints.push_back(std::make_unique<Endpoint>(address));
  impl_->call_ms = call_ms;
}
EtcdClient::~EtcdClient() = default;

absl::StatusOr<Etcd::Value> EtcdClient::Get(const std::string& key) {
  etcdserverpb::RangeRequest request;
  request.set_key(key);
  etcdserverpb::RangeResponse response;
  const absl::Status status = impl_->Call(impl_->call_ms, [&](Endpoint& endpoint, grpc::ClientContext* context) {
    return endpoint.kv->Range(context, request, &response);
  });
  if (!status.ok()) return status;
  if (response.kvs().empty()) return Value();
  mvccpb::KeyValue& found = *response.mutable_kvs(0);
  return Value{std::move(*found.mutable_value()), found.create_revision(), found.mod_revision()};
}

absl::StatusOr<Etcd::Put> EtcdClient::PutGuarded(const std::string& key, const std::string& value, int64_t mod_revision,
                                                 const std::string& guard, int64_t guard_create_revision) {
  etcdserverpb::TxnRequest request;
  Compare* leads = AddCompare(guard, &request);
  leads->set_target(Compare::CREATE);
  leads->set_create_revision(guard_create_revision);
  Compare* unchanged = AddCompare(key, &request);
  unchanged->set_target(Compare::MOD);
  unchanged->set_mod_revision(mod_revision);
  etcdserverpb::PutRequest* put = request.add_success()->mutable_request_put();
  put->set_key(key);
  put->set_value(value);
  for (const std::string& looked_at : {guard, key}) request.add_failure()->mutable_request_range()->set_key(looked_at);
  const auto response = impl_->Txn(request, 2);
  if (!response.ok()) return response.status();
  if (response->succeeded()) return Put{true, response->header().revision(), guard_create_revision};
  const auto& now = response->responses(1).response_range();
  return Put{false, now.kvs().empty() ? 0 : now.kvs(0).mod_revision(), CreateRevisionOf(response->responses(0))};
}

absl::StatusOr<int64_t> EtcdClient::PutNew(const std::string& key, const std::string& value, int64_t lease) {
  etcdserverpb::TxnRequest request;
  Compare* absent = AddCompare(key, &request);
  absent->set_target(Compare::CREATE);
  absent->set_create_revision(0);
  etcdserverpb::PutRequest* put = request.add_success()->mutable_request_put();
  put->set_key(key);
  put->set_value(value);
  put->set_lease(lease);
  const auto response = impl_->Txn(request, 0);
  if (!response.ok()) return response.status();
  return response->succeeded() ? response->header().revision() : 0;
}

absl::StatusOr<Etcd::Lease> EtcdClient::GrantLease(int64_t ttl_s) {
  etcdserverpb::LeaseGrantRequest request;
  request.set_ttl(ttl_s);
  etcdserverpb::LeaseGrantResponse response;
  const absl::Status status = impl_->Call(impl_->call_ms, [&](Endpoint& endpoint, grpc::ClientContext* context) {
    return endpoint.lease->LeaseGrant(context, request, &response);
  });
  if (!status.ok()) return status;
  return Lease{response.id(), response.ttl()};
}

absl::StatusOr<bool> EtcdClient::KeepAlive(int64_t lease) {
  etcdserverpb::LeaseKeepAliveResponse response;
  const absl::Status status = impl_->Call(impl_->call_ms, [&](Endpoint& endpoint, grpc::ClientContext* context) {
    etcdserverpb::LeaseKeepAliveRequest request;
    request.set_id(lease);
    const auto stream = endpoint.lease->LeaseKeepAlive(context);
    if (stream->Write(request) && stream->Read(&response)) {
      context->TryCancel();  // one answer is all that is wanted of the stream
      stream->Finish();
      return grpc::Status::OK;
    }
    const grpc::Status why = stream->Finish();
    return why.ok() ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "no answer to a keep-alive") : why;
  });
  if (!status.ok()) return status;
  return response.ttl() > 0;
}

absl::Status EtcdClient::RevokeLease(int64_t lease) {
  etcdserverpb::LeaseRevokeRequest request;
  request.set_id(lease);
  etcdserverpb::LeaseRevokeResponse response;
  const absl::Status status = impl_->Call(impl_->call_ms, [&](Endpoint& endpoint, grpc::ClientContext* context) {
    return endpoint.lease->LeaseRevoke(context, request, &response);
  });
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::StatusOr<int64_t> EtcdClient::Revision() {
  etcdserverpb::RangeRequest request;
  request.set_key("/");
  etcdserverpb::RangeResponse response;
  const absl::Status status = impl_->Call(impl_->call_ms, [&](Endpoint& endpoint, grpc::ClientContext* context) {
    return endpoint.kv->Range(context, request, &response);
  });
  if (!status.ok()) return status;
  return response.header().revision();
}

absl::Status EtcdClient::Compact(int64_t revision) {
  etcdserverpb::CompactionRequest request;
  request.set_revision(revision);
  etcdserverpb::CompactionResponse response;
  const absl::Status status = impl_->Call(impl_->call_ms, [&](Endpoint& endpoint, grpc::ClientContext* context) {
    return endpoint.kv->Compact(context, request, &response);
  });
  return absl::IsOutOfRange(status) ? absl::OkStatus() : status;  // compacted by somebody else already
}

}  // namespace tidegate
