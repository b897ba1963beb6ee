#include "ringweave/topology/max_flow.h"

#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/push_relabel_max_flow.hpp>

#include "ringweave/base/error.h"

namespace ringweave::topology {
namespace {

using Traits =
    boost::adjacency_list_traits<boost::vecS, boost::vecS, boost::directedS>;
using Edge = Traits::edge_descriptor;

struct Arc {
  std::int64_t capacity = 0;
  std::int64_t residual = 0;
  Edge reverse;
};

using BoostGraph =
    boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS,
                          boost::no_property, Arc>;

}  // namespace

struct FlowNetwork::Graph {
  explicit Graph(int vertices) : graph(vertices) {}
  BoostGraph graph;
  std::vector<Edge> arcs;
  int source = -1;  // of the last max_flow()
};

FlowNetwork::FlowNetwork(int vertices)
    : graph_(std::make_unique<Graph>(vertices)) {}
FlowNetwork::~FlowNetwork() = default;

int FlowNetwork::add_arc(int from, int to, std::int64_t capacity) {
  BoostGraph& graph = graph_->graph;
  const Edge arc = boost::add_edge(from, to, graph).first;
  const Edge reverse = boost::add_edge(to, from, graph).first;
  graph[arc] = {capacity, 0, reverse};
  graph[reverse] = {0, 0, arc};
  graph_->arcs.push_back(arc);
  return static_cast<int>(graph_->arcs.size()) - 1;
}

void FlowNetwork::set_capacity(int arc, std::int64_t capacity) {
  graph_->graph[graph_->arcs[arc]].capacity = capacity;
}

std::int64_t FlowNetwork::max_flow(int source, int sink) {
  graph_->source = source;
  BoostGraph& graph = graph_->graph;
  return boost::push_relabel_max_flow(
      graph, source, sink, boost::get(&Arc::capacity, graph),
      boost::get(&Arc::residual, graph), boost::get(&Arc::reverse, graph),
      boost::get(boost::vertex_index, graph));
}

std::int64_t FlowNetwork::flow(int arc) const {
  const Arc& found = graph_->graph[graph_->arcs[arc]];
  return found.capacity - found.residual;
}

std::vector<char> FlowNetwork::source_side() const {
  ensure(graph_->source >= 0, "a cut was asked for before a flow");
  const BoostGraph& graph = graph_->graph;
  std::vector<char> reached(boost::num_vertices(graph), 0);
  std::vector<int> todo = {graph_->source};
  reached[graph_->source] = 1;
  while (!todo.empty()) {
    const int at = todo.back();
    todo.pop_back();
    for (auto [edge, end] = boost::out_edges(at, graph); edge != end; ++edge) {
      const int to = static_cast<int>(boost::target(*edge, graph));
      if (graph[*edge].residual == 0 || reached[to]) continue;
      reached[to] = 1;
      todo.push_back(to);
    }
  }
  return reached;
}

}  // namespace ringweave::topology
