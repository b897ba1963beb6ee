#include "ringweave/convolution/convolution_plan.h"

#include <algorithm>
#include <map>
#include <set>

#include <ATen/ATen.h>

#include "ringweave/base/error.h"

namespace ringweave::convolution {
namespace {

using schedule::Segment;

/// A row of a table, and the position of its token; below 0 in the initial
/// state, whose last row is -1.
struct Need {
  std::int64_t row;
  std::int64_t position;
};

/// What the ranks' tables hold.
class Tables {
 public:
  explicit Tables(const ConvolutionSpec& spec)
      : spec_(spec), segments_(spec.layout.segments()) {}

  const std::vector<Segment>& segments() const { return segments_; }

  /// Where the document of a position starts.
  std::int64_t document_start(std::int64_t position) const {
    const std::vector<std::int64_t>& starts = spec_.mask.document_offsets();
    const auto next = std::ranges::upper_bound(starts, position);
    return next == starts.begin() ? 0 : *(next - 1);
  }
  /// The positions that tokens from `begin` on see before them.
  Range halo(std::int64_t begin) const {
    return before(begin, document_start(begin));
  }
  /// Of the final state.
  Range end() const {
    const std::int64_t tokens = spec_.layout.tokens();
    return before(tokens, tokens == 0 ? 0 : document_start(tokens - 1));
  }

  std::vector<Need> needs_of(Rank rank, bool final_state) const {
    std::vector<Need> needs;
    std::int64_t row = 0;
    const auto add = [&](const Range& positions) {
      for (std::int64_t p = positions.begin; p < positions.end; ++p) {
        needs.push_back({row++, p});
      }
    };
    for (const Segment& segment : segments_) {
      if (segment.rank == rank) add(halo(segment.positions.begin));
    }
    if (final_state) {
      row += spec_.width - 1 - end().size();
      add(end());
    }
    return needs;
  }
  std::int64_t rows_of(Rank rank, bool final_state) const {
    std::int64_t rows = final_state ? spec_.width - 1 : 0;
    for (const Segment& segment : segments_) {
      if (segment.rank == rank) rows += halo(segment.positions.begin).size();
    }
    return rows;
  }

  const Segment& holder(std::int64_t position) const {
    return *(std::ranges::upper_bound(segments_, position, {},
                                      [](const Segment& segment) {
                                        return segment.positions.begin;
                                      }) -
             1);
  }
  /// Index of a position among the tokens of its rank.
  std::int64_t local(std::int64_t position) const {
    const Segment& segment = holder(position);
    return segment.local + position - segment.positions.begin;
  }

 private:
  /// Those of the first document reach into the initial state.
  Range before(std::int64_t end, std::int64_t start) const {
    const std::int64_t first = end - (spec_.width - 1);
    return {start == 0 ? first : std::max(first, start), end};
  }

  const ConvolutionSpec& spec_;
  std::vector<Segment> segments_;
};

at::Tensor indices(const std::vector<std::int64_t>& values) {
  return at::tensor(at::ArrayRef(values), at::kLong);
}

/// Two lists that become a RowCopy.
struct RowList {
  std::vector<std::int64_t> from, to;

  void add(std::int64_t a, std::int64_t b) {
    from.push_back(a);
    to.push_back(b);
  }
  RowCopy copy() const { return {indices(from), indices(to)}; }
};

/// What `rank` needs of each other one: distinct positions, ascending.
std::map<Rank, std::set<std::int64_t>> asked(const Tables& tables, Rank rank,
                                             const std::vector<Need>& needs) {
  std::map<Rank, std::set<std::int64_t>> positions;
  for (const Need& need : needs) {
    if (need.position < 0) continue;
    const Rank holder = tables.holder(need.position).rank;
    if (holder != rank) positions[holder].insert(need.position);
  }
  return positions;
}

TablePlan table_plan(const ConvolutionSpec& spec, const Tables& tables,
                     Rank rank, bool final_state) {
  TablePlan plan;
  plan.rows = tables.rows_of(rank, final_state);
  const std::vector<Need> needs = tables.needs_of(rank, final_state);
  RowList initial, own;
  std::map<Rank, RowList> received;
  const auto messages = asked(tables, rank, needs);
  for (const auto& [row, position] : needs) {
    if (position < 0) {
      initial.add(position + spec.width - 1, row);
      continue;
    }
    const Rank holder = tables.holder(position).rank;
    if (holder == rank) {
      own.add(tables.local(position), row);
      continue;
    }
    const std::set<std::int64_t>& message = messages.at(holder);
    received[holder].add(std::distance(message.begin(), message.find(position)),
                         row);
  }
  plan.initial = initial.copy();
  plan.own = own.copy();
  for (const auto& [from, rows] : received) {
    plan.receives.push_back({from, std::ssize(messages.at(from)), rows.copy()});
  }
  for (Rank to = 0; to < spec.layout.ranks(); ++to) {
    if (to == rank) continue;
    const auto theirs = asked(tables, to, tables.needs_of(to, final_state));
    const auto mine = theirs.find(rank);
    if (mine == theirs.end()) continue;
    std::vector<std::int64_t> tokens;
    for (const std::int64_t position : mine->second) {
      tokens.push_back(tables.local(position));
    }
    plan.sends.push_back({to, indices(tokens)});
  }
  return plan;
}

/// A segment, cut where documents start.
void add_pieces(const Segment& segment, const schedule::Mask& mask,
                const Range& halo, std::vector<Piece>& pieces) {
  const Range& positions = segment.positions;
  const std::vector<std::int64_t>& starts = mask.document_offsets();
  std::int64_t begin = positions.begin;
  Range before = halo;
  const auto add = [&](std::int64_t end) {
    const std::int64_t local = segment.local + begin - positions.begin;
    pieces.push_back({{local, local + end - begin}, before});
    begin = end;
    before = {halo.end, halo.end};
  };
  for (auto start = std::ranges::upper_bound(starts, positions.begin);
       start != starts.end() && *start < positions.end; ++start) {
    add(*start);
  }
  add(positions.end);
}

void check(const ConvolutionSpec& spec, Rank rank) {
  require(rank >= 0 && rank < spec.layout.ranks(),
          "[convolution] got rank {}; want 0 … {}", rank,
          spec.layout.ranks() - 1);
  require(spec.width >= 1, "[convolution] got a width of {}; want at least 1",
          spec.width);
  const schedule::Mask& mask = spec.mask;
  require(mask.is_standard() && mask.is_causal() && !mask.window().left &&
              !mask.window().right,
          "[convolution] got the mask {}; want causal, with or without "
          "documents",
          mask.text());
  mask.check_tokens(spec.layout.tokens());
}

}  // namespace

std::shared_ptr<const ConvolutionPlan> make_convolution_plan(
    const ConvolutionSpec& spec, Rank rank) {
  check(spec, rank);
  const Tables tables(spec);
  auto plan = std::make_shared<ConvolutionPlan>(ConvolutionPlan{
      .spec = spec,
      .rank = rank,
      .pieces = {},
      .halos = table_plan(spec, tables, rank, false),
      .halos_and_end = table_plan(spec, tables, rank, true),
      .facts = {{"layout", comm::abridged(spec.layout.to_json().dump())},
                {"mask", comm::abridged(spec.mask.to_json().dump())},
                {"width", fmt::format("{}", spec.width)}}});
  std::int64_t row = 0;
  for (const Segment& segment : tables.segments()) {
    if (segment.rank != rank) continue;
    const std::int64_t rows = tables.halo(segment.positions.begin).size();
    add_pieces(segment, spec.mask, {row, row + rows}, plan->pieces);
    row += rows;
  }
  return plan;
}

}  // namespace ringweave::convolution
