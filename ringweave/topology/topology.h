// A machine as a directed graph: ranks, switches and the links between them.
//
//   Topology::Spec spec{.name = "pair"};
//   spec.vertices = {{VertexKind::rank, "a", 0}, {VertexKind::rank, "b", 0}};
//   spec.links = {{0, 1, 50e9, 1e-6, "nvlink"}, {1, 0, 50e9, 1e-6, "nvlink"}};
//   const Topology topology(std::move(spec));
//   std::vector<int> route = topology.route(0, 1);  // indices of links
//
// builtin.h makes the regular fabrics and named machines, topology_file.h reads
// and writes them as JSON, lower_bound.h says how fast blocks can travel at
// best.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ringweave/base/json.h"
#include "ringweave/base/range.h"
#include "ringweave/topology/fabric.h"

namespace ringweave::topology {

/// nic: where a node's traffic leaves it. host: a CPU socket or root complex,
/// which passes traffic on as a switch does.
enum class VertexKind { rank, switch_, nic, host };

struct Vertex {
  VertexKind kind = VertexKind::rank;
  std::string name;
  int node = 0;  ///< the machine that it is in; -1: in none (a spine switch)
  friend bool operator==(const Vertex&, const Vertex&) = default;
};

/// One direction of a link.
struct Link {
  int from = 0;  ///< vertex
  int to = 0;    ///< vertex
  double bytes_per_second = 0;
  double latency_seconds = 0;
  std::string link_class;  ///< such as "nvlink", "nic", "pcie"
  /// Links with the same number share one capacity, that of one of them: the
  /// two directions of a half-duplex cable. -1: its own.
  int shared = -1;
  friend bool operator==(const Link&, const Link&) = default;
};

/// Immutable.
class Topology {
 public:
  struct Spec {
    std::string name;
    std::string source;            ///< where the figures come from
    std::vector<Vertex> vertices;  ///< the ranks first
    std::vector<Link> links;
    /// Whether routes may pass through ranks, as in a torus of routers. If not,
    /// only switches, NICs and hosts pass traffic on.
    bool ranks_forward = false;
    /// Set if it is an instance of a regular fabric: closed forms hold.
    std::optional<Fabric> fabric = {};
    /// What `topology probe` says of how it measured: an object, kept in files
    /// as it is; null: not measured.
    Json measured = {};
  };

  /// Throws InvalidArgument for no rank, a rank after another vertex, a link
  /// from a vertex to itself or to none, a second link between the same two
  /// vertices, rates and latencies out of the ranges of limits.h.
  explicit Topology(Spec spec);

  const std::string& name() const { return spec_.name; }
  const std::string& source() const { return spec_.source; }
  int ranks() const { return ranks_; }
  int vertices() const { return static_cast<int>(spec_.vertices.size()); }
  const Vertex& vertex(int index) const { return spec_.vertices[index]; }
  const std::vector<Link>& links() const { return spec_.links; }
  bool ranks_forward() const { return spec_.ranks_forward; }
  const std::optional<Fabric>& fabric() const { return spec_.fabric; }
  const Json& measured() const { return spec_.measured; }
  /// The node numbers that occur among the ranks, counted.
  int nodes() const;

  /// Indices of the links that leave or enter a vertex.
  const std::vector<int>& outgoing(int vertex) const { return out_[vertex]; }
  const std::vector<int>& incoming(int vertex) const { return in_[vertex]; }
  /// The link between two vertices; nullopt if there is none.
  std::optional<int> link(int from, int to) const;

  /// The links that a message takes: fewest hops, then the widest narrowest
  /// link, then the lowest latency, then the lowest vertex numbers. Passes
  /// through ranks only if ranks_forward(). Empty if `to` can't be reached, or
  /// is `from`. O(links) a call.
  std::vector<int> route(Rank from, Rank to) const;
  /// route() to every rank at once, by rank. O(links + total length).
  std::vector<std::vector<int>> routes(Rank from) const;

  /// Throws InvalidArgument naming two ranks that no path joins, be it through
  /// other ranks.
  void check_connected() const;

 private:
  Spec spec_;
  int ranks_ = 0;
  std::vector<std::vector<int>> out_;
  std::vector<std::vector<int>> in_;
};

const char* name(VertexKind);

}  // namespace ringweave::topology
