#include "ringweave/topology/expand.h"

#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::topology {
namespace {

constexpr long long kMaxLinks = 4'000'000;
constexpr int kSpineNode = -1;

int add_vertex(Topology::Spec& spec, VertexKind kind, std::string name,
               int node) {
  spec.vertices.push_back({kind, std::move(name), node});
  return static_cast<int>(spec.vertices.size()) - 1;
}

long long count_links(const Fabric& fabric) {
  const long long n = fabric.ranks;
  const long long inside = fabric.ranks_per_node();
  switch (fabric.kind) {
    case FabricKind::mesh:
      return n * (n - 1);
    case FabricKind::two_level:
      return fabric.inside == FabricKind::mesh ? n * (inside + 3) : n * 6;
    default:
      return n * 6;
  }
}

/// A link between each two of the ranks first … first + count - 1.
void add_mesh(Topology::Spec& spec, const Fabric& fabric, Rank first,
              int count) {
  for (Rank a = first; a < first + count; ++a) {
    for (Rank b = a + 1; b < first + count; ++b) {
      add_cable(spec, {a, b, fabric.link_bytes_per_second,
                       fabric.link_latency_seconds, "link"});
    }
  }
}

void add_switch(Topology::Spec& spec, const Fabric& fabric, int node) {
  const int count = fabric.ranks_per_node();
  const int hub = add_vertex(spec, VertexKind::switch_,
                             fmt::format("switch{}", node), node);
  for (Rank rank = node * count; rank < (node + 1) * count; ++rank) {
    add_cable(spec, {rank, hub, fabric.link_bytes_per_second,
                     fabric.link_latency_seconds / 2, "port"});
  }
}

/// Ranks are numbered with the last dimension fastest. A side of 2 has one
/// cable between its two ranks, not two.
void add_torus(Topology::Spec& spec, const Fabric& fabric,
               const std::vector<int>& sides) {
  std::vector<Rank> stride(sides.size(), 1);
  for (std::size_t d = sides.size() - 1; d > 0; --d) {
    stride[d - 1] = stride[d] * sides[d];
  }
  for (Rank rank = 0; rank < fabric.ranks; ++rank) {
    for (std::size_t d = 0; d < sides.size(); ++d) {
      const int place = rank / stride[d] % sides[d];
      if (sides[d] == 1 || (sides[d] == 2 && place == 1)) continue;
      const int next = (place + 1) % sides[d];
      add_cable(spec, {rank, rank + (next - place) * stride[d],
                       fabric.link_bytes_per_second,
                       fabric.link_latency_seconds, "link"});
    }
  }
}

void add_nics(Topology::Spec& spec, const Fabric& fabric) {
  const int spine = add_vertex(spec, VertexKind::switch_, "spine", kSpineNode);
  const int sharing = fabric.ranks_per_node() / fabric.nics_per_node;
  for (Rank first = 0; first < fabric.ranks; first += sharing) {
    const int nic =
        add_vertex(spec, VertexKind::nic, fmt::format("nic{}", first / sharing),
                   first / fabric.ranks_per_node());
    for (Rank rank = first; rank < first + sharing; ++rank) {
      // As fast as the NIC, so that the NIC alone limits what leaves a node.
      add_cable(spec, {rank, nic, fabric.nic_bytes_per_second, 0, "to_nic"});
    }
    add_cable(spec, {nic, spine, fabric.nic_bytes_per_second,
                     fabric.nic_latency_seconds / 2, "nic"});
  }
}

void add_two_level(Topology::Spec& spec, const Fabric& fabric) {
  for (int node = 0; node < fabric.nodes; ++node) {
    const int count = fabric.ranks_per_node();
    if (fabric.inside == FabricKind::mesh) {
      add_mesh(spec, fabric, node * count, count);
    } else {
      add_switch(spec, fabric, node);
    }
  }
  add_nics(spec, fabric);
}

}  // namespace

void add_cable(Topology::Spec& spec, const Link& link) {
  spec.links.push_back(link);
  spec.links.push_back(link);
  std::swap(spec.links.back().from, spec.links.back().to);
}

Topology::Spec expanded(const Fabric& fabric) {
  check(fabric);
  require(count_links(fabric) <= kMaxLinks,
          "[expand] got a {} of {} ranks, {} links; want at most {}: larger "
          "fabrics have closed forms only",
          name(fabric.kind), fabric.ranks, count_links(fabric), kMaxLinks);
  Topology::Spec spec;
  spec.name = name(fabric.kind);
  spec.fabric = fabric;
  for (Rank rank = 0; rank < fabric.ranks; ++rank) {
    add_vertex(spec, VertexKind::rank, fmt::format("rank{}", rank),
               rank / fabric.ranks_per_node());
  }
  switch (fabric.kind) {
    case FabricKind::mesh:
      add_mesh(spec, fabric, 0, fabric.ranks);
      break;
    case FabricKind::switch_:
      add_switch(spec, fabric, 0);
      break;
    case FabricKind::ring:
      spec.ranks_forward = true;
      add_torus(spec, fabric, {fabric.ranks});
      break;
    case FabricKind::torus:
      spec.ranks_forward = true;
      add_torus(spec, fabric, fabric.dimensions);
      break;
    case FabricKind::two_level:
      add_two_level(spec, fabric);
      break;
  }
  return spec;
}

Topology expand(const Fabric& fabric) { return Topology(expanded(fabric)); }

}  // namespace ringweave::topology
