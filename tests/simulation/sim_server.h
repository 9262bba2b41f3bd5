#pragma once
// A server: strands with a ShardGroup each, and between them and the network what server/rpc/shard_engine
// does with threads: messages are parsed and checked once, split over the strands, answers are merged.
// Strands may lag behind each other.

#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/random.h"
#include "server/replication/grants.h"
#include "server/replication/inbox.h"
#include "server/replication/outbox.h"
#include "server/shard/message_check.h"
#include "tests/simulation/sim_member.h"

namespace tidegate::simulation {

class SimServer final : public SimMember, private RowSink {
 public:
  // Called in the server with the encoded response.
  using Answer = std::function<void(std::shared_ptr<const std::string>)>;

  SimServer(World* world, int id, int index);

  void Boot();
  // Its memory is lost; Boot begins another incarnation.
  void Crash();
  bool ended() const { return ended_; }

  // A message of the stream of `peer` (any number that names it).
  void Receive(int peer, std::string bytes, Answer answer);
  // A push of the run before this one, late.
  void ReceiveOld(std::string bytes);
  // The stream broke: nobody waits for its answers any more.
  void Disconnect(int peer);
  // One message of the stream of a primary, and where its answers go.
  using ReplicaAnswer = std::function<void(const ReplicaResponse&)>;
  void ReceiveReplica(std::shared_ptr<const std::string> bytes, ReplicaAnswer answer);
  // The streams to and from this server broke, and nobody listens there.
  void LosePeer(Incarnation server);

  // Which incarnation crashed last.
  Incarnation lost() const { return lost_; }
  size_t strands() const { return strands_.size(); }
  Epoch epoch() const { return epoch_; }  // of the table that all strands have
  std::vector<const ShardGroup*> groups() const;
  uint64_t Digest() const;
  uint64_t ShardDigest(ShardId shard) const;

 private:
  struct Strand {
    int index = 0;
    std::unique_ptr<ShardGroup> group;
    ShardEffects effects;
    std::map<int, TimeMs> idle_at;  // by peer
    std::vector<ShardId> shards;
    std::shared_ptr<const Routing> routing;
    StrandLog log;
  };
  // A process that follows shards of this one.
  struct Follower {
    Follower(const Outbox::Options& options, int process) : outbox(options), index(process) {}
    Outbox outbox;
    int index;           // of the process
    uint64_t lanes = 0;  // that it follows; bit per strand
    uint64_t link = 0;   // counts connections
    bool connected = false;
  };
  // A primary process that is followed here.
  struct Leader {
    explicit Leader(Incarnation sender) : inbox(sender) {}
    Inbox inbox;
    ReplicaAnswer answer;  // of its newest stream
  };
  struct Share;
  struct Open {
    ServerCall call;
    int peer = 0;
    uint64_t number = 0;
    Answer answer;
    uint64_t pending = 0;  // bit per strand
    bool joining = false;
    bool cancelled = false;
    absl::Status status;
    bool has_min_clock = false;
    Clock min_clock = 0;
    TimeMs valid_until = std::numeric_limits<TimeMs>::max();  // of a pull's rows
    std::vector<ShardId> refused_shards;
    uint64_t duplicate_rows = 0;
    std::vector<Incarnation> contributors;  // to one that asks
    Clock closed = 0;
    std::vector<std::vector<std::byte>> rows;
  };

  // It has been told that it is drained: it must be empty, ends, and never comes back.
  void EndDrained();

  struct Writing;
  void ArmCut(const CutShards& cut, std::function<void()> done);
  void Write(const WriteCheckpoint& command, CommandResult result, std::function<void(CommandResult)> done);
  void WriteOn(const std::shared_ptr<Writing>& writing);
  void StepOfCut(ShardCut* cut, Writing* writing);
  void Restore(const RestoreTables& restore, Strand* strand);

  void OnJoined() override;
  void OnRouting(const RoutingTable& table) override;
  void OnWorkers(const WorkerSet& workers) override;
  void OnPhase(Phase phase, const std::string& message) override;
  void OnRejoin() override;
  void FillReports(HeartbeatRequest* request) override;
  void RunCommand(const Command& command, std::function<void(CommandResult)> done) override;
  std::span<std::byte> RowsOf(CallToken token, size_t table_index) override;

  // In the order of each peer's messages; those of several peers mix in another way on every strand, as
  // they do when a thread for each hands them to the strands.
  void RunOn(Strand* strand, int peer, std::function<void()> work);

  // --- sim_server_replication.cc ---
  void TakeRouting();
  void FollowRouting();
  void OpenTables(const std::vector<TableSpec>& specs, float learning_rate_scale);
  Follower* FollowerOf(Incarnation server, const Routing& routing);
  void Connect(Incarnation server);
  void Break(Incarnation server, uint64_t link);
  void SendRecords(Incarnation server);
  void TakeAnswer(Incarnation server, const ReplicaResponse& response);
  void ApplyShare(Strand* strand, const std::shared_ptr<Share>& share);
  void AnswerReplica(Incarnation sender, const std::optional<ReplicaResponse>& response);
  void TakeReplication(Strand* strand, const ShardEffects& effects);
  void Replicate();
  static constexpr int kControl = -1;  // "peer" of what the scheduler says
  // On every strand; `after` when all have done it.
  void OnEvery(std::function<void(Strand*)> work, std::function<void()> after = nullptr);
  absl::Status Check(Open* open);
  void Split(Open* open) const;
  uint64_t StrandsOf(const Open& open) const;
  void Dispatch(const std::shared_ptr<Open>& open, uint64_t strands);
  void Work(Strand* strand, const std::shared_ptr<Open>& open);
  KeySelection SelectionOf(const Open& open, int strand) const;
  // Tells the checkers, then hands the strand's effects on.
  void Deliver(Strand* strand, GroupCall::Kind kind, const ServerCall* call, GroupCall info);
  GroupCall Before(const Strand& strand);
  void FinishShare(const Strand& strand, CallToken token);
  void Reply(const Open& open);
  void Send(const Open& open, const wire::Response& response);
  uint64_t AllStrands() const { return (uint64_t{1} << strands_.size()) - 1; }

  const int index_;
  Random random_;
  std::vector<Strand> strands_;
  std::shared_ptr<const TableCatalog> catalog_;
  Epoch epoch_ = 0;
  int log2_shards_ = 0;
  std::vector<uint8_t> strand_of_shard_;
  std::shared_ptr<const Routing> newest_;   // heard of
  std::shared_ptr<const Routing> routing_;  // of all strands
  bool taking_ = false;                     // the strands are at newest_
  uint64_t boots_ = 0;
  Incarnation lost_ = 0;
  uint64_t ticks_ = 0;
  std::unique_ptr<GivenGrants> grants_;
  std::map<Incarnation, Follower> followers_;
  std::map<Incarnation, Leader> leaders_;
  std::map<std::pair<ShardId, Incarnation>, Epoch> in_sync_;  // to be recorded
  std::set<ShardId> refill_;
  std::map<ShardId, Epoch> drained_;  // to be handed over
  std::set<Incarnation> unreachable_;
  CallToken next_ = 1;
  std::map<CallToken, std::shared_ptr<Open>> open_;
  bool ended_ = false;
};

}  // namespace tidegate::simulation
