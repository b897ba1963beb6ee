// Maximum flow between two vertices, by Boost.Graph. Internal to topology:
// bounds, rings and tree packings ask it.
//
//   FlowNetwork network(3);
//   network.add_arc(0, 1, 5);
//   network.add_arc(1, 2, 3);
//   network.max_flow(0, 2);  // 3
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace ringweave::topology {

class FlowNetwork {
 public:
  explicit FlowNetwork(int vertices);
  ~FlowNetwork();

  /// Returns the arc's number, counted from 0. Capacities are at least 0; their
  /// sum must stay below 2^62.
  int add_arc(int from, int to, std::int64_t capacity);
  void set_capacity(int arc, std::int64_t capacity);

  /// Each call starts from zero flow.
  std::int64_t max_flow(int source, int sink);
  /// What an arc carried in the last max_flow().
  std::int64_t flow(int arc) const;
  /// The vertices on the source's side of a minimum cut of the last
  /// max_flow(), [vertex].
  std::vector<char> source_side() const;

 private:
  struct Graph;
  std::unique_ptr<Graph> graph_;
};

}  // namespace ringweave::topology
