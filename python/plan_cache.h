// What was made for an operator's arguments, found by the bytes of these
// (python/arguments.h, Key).
#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <utility>

namespace ringweave::python {

/// Keeps the plans that were used last. Packed documents bring a new mask with
/// every batch: plans of such masks have a list of their own, so that they
/// can't push out those that every step uses.
template <typename Plan>
class PlanCache {
 public:
  static constexpr std::size_t kKept = 32;  ///< of each list

  struct Made {
    std::shared_ptr<const Plan> plan;
    bool has_documents = false;
  };

  /// `make` is called for a key that is not there, and returns Made. What it
  /// throws is not kept.
  template <typename Make>
  std::shared_ptr<const Plan> get(const std::string& key, const Make& make) {
    for (Entries* entries : {&lasting_, &of_documents_}) {
      const auto found =
          std::find_if(entries->begin(), entries->end(),
                       [&](const auto& entry) { return entry.first == key; });
      if (found == entries->end()) continue;
      entries->splice(entries->begin(), *entries, found);
      return found->second;
    }
    const Made made = make();
    Entries& entries = made.has_documents ? of_documents_ : lasting_;
    if (entries.size() == kKept) entries.pop_back();
    entries.emplace_front(key, made.plan);
    return made.plan;
  }

 private:
  using Entries =
      std::list<std::pair<std::string, std::shared_ptr<const Plan>>>;
  Entries lasting_, of_documents_;  // the latest first
};

}  // namespace ringweave::python
