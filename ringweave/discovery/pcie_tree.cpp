#include "ringweave/discovery/pcie_tree.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/ranges.h>

#include "ringweave/topology/expand.h"

namespace ringweave::discovery {
namespace {

constexpr int kBridge = static_cast<int>(Nearness::bridge);
constexpr int kHost = static_cast<int>(Nearness::host);
constexpr int kSockets = static_cast<int>(Nearness::sockets);
/// More NUMA nodes than this are parts of sockets.
constexpr int kMostSockets = 4;

/// The number that `affinity` starts with, or 0.
int first_number(const std::string& affinity) {
  int number = 0;
  std::from_chars(affinity.data(), affinity.data() + affinity.size(), number);
  return number;
}

/// What is joined by a class or a nearer one is a group, which hangs below one
/// vertex.
class Tree {
 public:
  Tree(topology::Topology::Spec& spec, const Devices& devices,
       const PcieClasses& classes, const ClassRates& rates)
      : spec_(spec), devices_(devices), classes_(classes), rates_(rates) {
    const int count = static_cast<int>(devices.nearness.size());
    group_.resize(count);
    std::iota(group_.begin(), group_.end(), 0);
    roots_.resize(count);
    for (int gpu = 0; gpu < devices.gpus; ++gpu) roots_[gpu] = {gpu};
  }

  /// Returns the note.
  std::string grow() {
    for (int level = 0; level < kHost; ++level) {
      unite(level);
      for (auto& roots : roots_) lift(roots, level);
    }
    unite(kHost);
    std::vector<bool> near;  // group → whether several of it are of one socket
    for (const auto& roots : roots_) near.push_back(roots.size() > 1);
    std::string note = unite_sockets();
    for (std::size_t group = 0; group < roots_.size(); ++group) {
      lift_to_socket(roots_[group], near[group]);
    }
    join_sockets();
    return note;
  }

 private:
  void merge(int a, int b) {
    const int from = std::max(group_[a], group_[b]);
    const int to = std::min(group_[a], group_[b]);
    if (from == to) return;
    std::replace(group_.begin(), group_.end(), from, to);
    roots_[to].insert(roots_[to].end(), roots_[from].begin(),
                      roots_[from].end());
    roots_[from].clear();
  }

  bool same_affinity(int a, int b) const {
    return a < devices_.gpus && b < devices_.gpus &&
           !devices_.affinity[a].empty() &&
           devices_.affinity[a] == devices_.affinity[b];
  }

  void unite(int level) {
    for (int a = 0; a < static_cast<int>(group_.size()); ++a) {
      for (int b = 0; b < a; ++b) {
        const Nearness nearness = devices_.nearness[a][b];
        const bool same_socket = level == kHost &&
                                 nearness == Nearness::hidden &&
                                 same_affinity(a, b);
        if (static_cast<int>(nearness) <= level || same_socket) merge(a, b);
      }
    }
  }

  /// Groups that have a GPU.
  int sockets() const {
    return static_cast<int>(std::ranges::count_if(
        roots_, [](const auto& roots) { return !roots.empty(); }));
  }

  /// Joins groups to sockets where classes alone would give too many.
  std::string unite_sockets() {
    if (sockets() <= 2) return {};
    const bool told = std::ranges::none_of(
        devices_.affinity, [](const auto& text) { return text.empty(); });
    std::string note;
    if (told) {
      const int before = sockets();
      for (int a = 0; a < devices_.gpus; ++a) {
        for (int b = 0; b < a; ++b) {
          if (same_affinity(a, b)) merge(a, b);
        }
      }
      if (sockets() < before) {
        note =
            fmt::format("{} between GPUs of one NUMA node is read as one host",
                        classes_[kSockets]);
      }
      if (sockets() <= kMostSockets) return note;
      note.clear();
    }
    return unite_halves(told);
  }

  std::string unite_halves(bool told) {
    std::vector<int> order(devices_.gpus);
    std::iota(order.begin(), order.end(), 0);
    if (told) {
      std::ranges::stable_sort(order, {}, [&](int gpu) {
        return first_number(devices_.affinity[gpu]);
      });
    }
    std::vector<int> groups;  // in that order
    for (const int gpu : order) {
      if (std::ranges::find(groups, group_[gpu]) == groups.end()) {
        groups.push_back(group_[gpu]);
      }
    }
    std::vector<int> first_of_half = {groups.front(), -1};
    int placed = 0;
    for (const int group : groups) {
      int& first = first_of_half[2 * placed < devices_.gpus ? 0 : 1];
      placed += static_cast<int>(std::ranges::count(
          group_.begin(), group_.begin() + devices_.gpus, group));
      if (first < 0) first = group;
      merge(first, group);
      first = group_[first];
    }
    return fmt::format("{}; two are assumed: {}",
                       told ? "the table tells more NUMA nodes than there "
                              "would be sockets"
                            : "the table does not tell the sockets",
                       fmt::join(members_of_groups(), " and "));
  }

  std::vector<std::string> members_of_groups() const {
    std::vector<std::string> result;
    std::set<int> seen;
    for (int a = 0; a < devices_.gpus; ++a) {
      if (!seen.insert(group_[a]).second) continue;
      std::vector<std::string> names;
      for (int b = a; b < devices_.gpus; ++b) {
        if (group_[b] == group_[a]) names.push_back(spec_.vertices[b].name);
      }
      result.push_back(fmt::format("{}", fmt::join(names, ", ")));
    }
    return result;
  }

  /// A vertex above `roots`, by links of the class of `level`.
  void put_above(std::vector<int>& roots, bool host, int level) {
    std::sort(roots.begin(), roots.end());
    const int above = static_cast<int>(spec_.vertices.size());
    spec_.vertices.push_back(
        {host ? topology::VertexKind::host : topology::VertexKind::switch_,
         host ? fmt::format("host{}", hosts_++)
              : fmt::format("pcie{}", switches_++),
         0});
    const std::string& name = classes_[level];
    for (const int root : roots) {
      add_cable(spec_, {root, above, rates_.at(name), 0, name});
    }
    roots = {above};
  }

  void lift(std::vector<int>& roots, int level) {
    if (roots.size() > 1) put_above(roots, level >= kBridge, level);
  }

  void lift_to_socket(std::vector<int>& roots, bool near) {
    if (roots.empty()) return;
    const bool hosts = std::ranges::any_of(roots, [&](int root) {
      return spec_.vertices[root].kind == topology::VertexKind::host;
    });
    // GPUs that no class joins go by the host bridge.
    if (!hosts || roots.size() > 1) {
      put_above(roots, true, near || hosts ? kHost : kBridge);
    }
    sockets_.push_back(roots[0]);
  }

  void join_sockets() {
    const std::string& name = classes_[kSockets];
    for (std::size_t a = 0; a < sockets_.size(); ++a) {
      for (std::size_t b = a + 1; b < sockets_.size(); ++b) {
        add_cable(spec_, {sockets_[a], sockets_[b], rates_.at(name), 0, name});
      }
    }
  }

  topology::Topology::Spec& spec_;
  const Devices& devices_;
  const PcieClasses& classes_;
  const ClassRates& rates_;
  std::vector<int> group_;               // device → number of its group
  std::vector<std::vector<int>> roots_;  // group → vertices without a parent
  std::vector<int> sockets_;
  int switches_ = 0;
  int hosts_ = 0;
};

}  // namespace

std::string add_pcie_tree(topology::Topology::Spec& spec,
                          const Devices& devices, const PcieClasses& classes,
                          const ClassRates& rates) {
  return Tree(spec, devices, classes, rates).grow();
}

}  // namespace ringweave::discovery
