#include "scheduler/membership.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace tidegate {
namespace {

constexpr int kGoneMembersMax = 64;

}  // namespace

std::string DescribeMember(const Member& member) {
  return absl::StrCat(member.role() == SERVER ? "server " : "worker ", member.incarnation(), " (",
                      member.name().empty() ? member.address() : member.name(), ")");
}

MemberRecord* Membership::FindActive(Incarnation incarnation) {
  auto* members = state_->mutable_members();  // they rise
  const auto it = std::lower_bound(members->begin(), members->end(), incarnation,
                                   [](const MemberRecord& r, Incarnation i) { return r.member().incarnation() < i; });
  if (it == members->end() || it->member().incarnation() != incarnation) return nullptr;
  return it->state() == MemberRecord::ACTIVE ? &*it : nullptr;
}

MemberRecord* Membership::FindActive(Role role, uint64_t nonce) {
  if (nonce == 0) return nullptr;
  for (MemberRecord& record : *state_->mutable_members()) {
    if (record.nonce() == nonce && record.member().role() == role &&
        record.state() == MemberRecord::ACTIVE) {
      return &record;
    }
  }
  return nullptr;
}

MemberRecord* Membership::FindActiveServer(const std::string& address) {
  for (MemberRecord& record : *state_->mutable_members()) {
    if (record.member().address() == address && record.member().role() == SERVER &&
        record.state() == MemberRecord::ACTIVE) {
      return &record;
    }
  }
  return nullptr;
}

MemberRecord* Membership::Add(const JoinRequest& request) {
  state_->set_last_incarnation(state_->last_incarnation() + 1);
  state_->set_worker_set_version(state_->worker_set_version() + 1);
  MemberRecord* record = state_->add_members();
  Member* member = record->mutable_member();
  member->set_incarnation(state_->last_incarnation());
  member->set_role(request.role());
  member->set_address(request.address());
  member->set_name(request.name());
  record->set_nonce(request.nonce());
  return record;
}

void Membership::Remove(Incarnation incarnation, MemberRecord::State state) {
  MemberRecord* record = FindActive(incarnation);
  TG_CHECK(record != nullptr) << "member " << incarnation;
  record->set_state(state);
  state_->set_worker_set_version(state_->worker_set_version() + 1);
  auto* members = state_->mutable_members();
  auto gone = [](const MemberRecord& r) { return r.state() != MemberRecord::ACTIVE; };
  if (std::count_if(members->begin(), members->end(), gone) > kGoneMembersMax) {
    members->erase(std::find_if(members->begin(), members->end(), gone));
  }
}

std::vector<Incarnation> Membership::Active(Role role) const {
  std::vector<Incarnation> active;
  for (const MemberRecord& record : state_->members()) {
    if (record.state() == MemberRecord::ACTIVE && record.member().role() == role) {
      active.push_back(record.member().incarnation());
    }
  }
  return active;
}

size_t Membership::CountActive(Role role) const {
  const auto& members = state_->members();
  return static_cast<size_t>(std::count_if(members.begin(), members.end(), [&](const MemberRecord& r) {
    return r.state() == MemberRecord::ACTIVE && r.member().role() == role;
  }));
}

WorkerSet Membership::Workers() const {
  WorkerSet set;
  set.set_version(state_->worker_set_version());
  set.set_last_incarnation(state_->last_incarnation());
  for (Incarnation worker : Active(WORKER)) set.add_live(worker);
  return set;
}

}  // namespace tidegate
