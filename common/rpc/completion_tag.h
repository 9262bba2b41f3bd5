#pragma once
// What a completion queue gives back, whoever began the operation: static_cast<CompletionTag*>(tag)->Proceed(ok).

namespace tidegate {

class CompletionTag {
 public:
  virtual ~CompletionTag() = default;
  virtual void Proceed(bool ok) = 0;  // may delete the tag
};

}  // namespace tidegate
