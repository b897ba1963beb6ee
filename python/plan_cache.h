// What was made for an operator's arguments, found by the texts they came as:
// comparing texts costs less than reading the JSON in them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <utility>

namespace ringweave::python {

/// Two lists, the latest first. Packed documents bring a new mask with every
/// batch: what was asked for once must not push out what every step asks for.
template <typename Value>
class PlanCache {
 public:
  /// `make` is called for a key that is not there. What it throws is not kept.
  template <typename Make>
  std::shared_ptr<const Value> get(const std::string& key, const Make& make) {
    if (const auto found = find(repeated_, key); found != repeated_.end()) {
      repeated_.splice(repeated_.begin(), repeated_, found);
      return found->second;
    }
    if (const auto found = find(once_, key); found != once_.end()) {
      repeated_.splice(repeated_.begin(), once_, found);
      if (repeated_.size() > kRepeated) {
        once_.splice(once_.begin(), repeated_, std::prev(repeated_.end()));
      }
      return repeated_.front().second;
    }
    once_.emplace_front(key, make());
    const std::shared_ptr<const Value> made = once_.front().second;
    if (once_.size() > kOnce) once_.pop_back();
    return made;
  }

 private:
  using Entries =
      std::list<std::pair<std::string, std::shared_ptr<const Value>>>;
  static constexpr std::size_t kRepeated = 32;
  static constexpr std::size_t kOnce = 32;

  static typename Entries::iterator find(Entries& entries,
                                         const std::string& key) {
    return std::find_if(entries.begin(), entries.end(),
                        [&](const auto& entry) { return entry.first == key; });
  }

  Entries repeated_, once_;
};

}  // namespace ringweave::python
