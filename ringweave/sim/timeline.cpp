#include "ringweave/sim/timeline.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

namespace ringweave::sim {
namespace {

/// Length of the union of intervals, which come in order of their beginnings.
class Union {
 public:
  void add(double begin, double end) {
    length_ += std::max(0.0, end - std::max(begin, covered_));
    covered_ = std::max(covered_, end);
  }
  double length() const { return length_; }

 private:
  double length_ = 0;
  double covered_ = 0;
};

}  // namespace

double Timeline::exposed_seconds() const {
  double sum = 0;
  for (const RankTimes& rank : ranks) sum += rank.waiting_seconds;
  return sum / static_cast<double>(ranks.size());
}

std::vector<LinkUse> link_use(
    const std::vector<MessageTimes>& messages,
    const std::vector<const std::vector<int>*>& routes,
    const std::vector<double>& rates, double seconds) {
  std::vector<std::size_t> order(messages.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {},
                    [&](std::size_t i) { return messages[i].start_seconds; });
  std::vector<LinkUse> uses(rates.size());
  std::vector<Union> busy(rates.size());
  for (const std::size_t i : order) {
    const MessageTimes& message = messages[i];
    if (message.end_seconds == kNever) continue;
    for (const int link : *routes[i]) {
      ++uses[link].messages;
      uses[link].bytes += message.bytes;
      busy[link].add(message.start_seconds, message.end_seconds);
    }
  }
  for (std::size_t link = 0; link < uses.size(); ++link) {
    LinkUse& use = uses[link];
    use.link = static_cast<int>(link);
    use.busy_seconds = busy[link].length();
    const double capacity = rates[link] * seconds;
    if (capacity > 0 && std::isfinite(capacity)) {
      use.utilisation = static_cast<double>(use.bytes) / capacity;
    }
  }
  return uses;
}

std::vector<LinkClassUse> link_class_use(const std::vector<LinkUse>& links,
                                         const topology::Topology& topology) {
  std::map<std::string, LinkClassUse> classes;
  for (const LinkUse& use : links) {
    const std::string& name = topology.links()[use.link].link_class;
    LinkClassUse& sum = classes[name];
    sum.link_class = name;
    ++sum.links;
    sum.bytes += use.bytes;
    sum.busiest_bytes = std::max(sum.busiest_bytes, use.bytes);
    sum.utilisation += use.utilisation;
    sum.busiest_utilisation =
        std::max(sum.busiest_utilisation, use.utilisation);
  }
  std::vector<LinkClassUse> result;
  for (auto& [name, sum] : classes) {
    sum.utilisation /= sum.links;
    result.push_back(std::move(sum));
  }
  return result;
}

}  // namespace ringweave::sim
