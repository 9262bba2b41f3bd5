#include "scheduler/membership.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace tidegate {
namespace {

constexpr size_t kGoneMembersMax = 64;

}  // namespace

std::string DescribeMember(const Member& member) {
  return absl::StrCat(member.role() == SERVER ? "server " : "worker ", member.incarnation(), " (",
                      member.name().empty() ? member.address() : member.name(), ")");
}

Membership::Membership(SchedulerState* state) : state_(state) {
  for (const MemberRecord& record : state->members()) {
    if (record.state() == MemberRecord::ACTIVE) {
      Index(record);
    } else {
      ++gone_;
    }
  }
}

void Membership::Index(const MemberRecord& record) {
  const Member& member = record.member();
  ++active_[static_cast<size_t>(member.role())];
  by_nonce_.emplace(std::pair(member.role(), record.nonce()), member.incarnation());
  if (member.role() == SERVER) servers_by_address_.emplace(member.address(), member.incarnation());
}

MemberRecord* Membership::FindActive(Incarnation incarnation) {
  auto* members = state_->mutable_members();  // they rise
  const auto it = std::lower_bound(members->begin(), members->end(), incarnation,
                                   [](const MemberRecord& r, Incarnation i) { return r.member().incarnation() < i; });
  if (it == members->end() || it->member().incarnation() != incarnation) return nullptr;
  return it->state() == MemberRecord::ACTIVE ? &*it : nullptr;
}

MemberRecord* Membership::FindActive(Role role, uint64_t nonce) {
  const auto it = by_nonce_.find({role, nonce});
  return nonce == 0 || it == by_nonce_.end() ? nullptr : FindActive(it->second);
}

MemberRecord* Membership::FindActiveServer(const std::string& address) {
  const auto it = servers_by_address_.find(address);
  return it == servers_by_address_.end() ? nullptr : FindActive(it->second);
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
  member->set_zone(request.zone());
  record->set_nonce(request.nonce());
  Index(*record);
  return record;
}

void Membership::Remove(Incarnation incarnation, MemberRecord::State state) {
  MemberRecord* record = FindActive(incarnation);
  TG_CHECK(record != nullptr) << "member " << incarnation;
  record->set_state(state);
  state_->set_worker_set_version(state_->worker_set_version() + 1);
  const Member& member = record->member();
  --active_[static_cast<size_t>(member.role())];
  const auto forget = [&](auto& index, const auto& key) {
    if (const auto it = index.find(key); it != index.end() && it->second == incarnation) index.erase(it);
  };
  forget(by_nonce_, std::pair(member.role(), record->nonce()));
  if (member.role() == SERVER) forget(servers_by_address_, member.address());
  if (++gone_ <= kGoneMembersMax) return;
  auto* members = state_->mutable_members();
  members->erase(std::find_if(members->begin(), members->end(),
                              [](const MemberRecord& r) { return r.state() != MemberRecord::ACTIVE; }));
  --gone_;
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

WorkerSet Membership::Workers() const {
  WorkerSet set;
  set.set_version(state_->worker_set_version());
  set.set_last_incarnation(state_->last_incarnation());
  for (Incarnation worker : Active(WORKER)) set.add_live(worker);
  return set;
}

}  // namespace tidegate
