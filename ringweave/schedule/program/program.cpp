#include "ringweave/schedule/program/program.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/schedule/program/coverage.h"
#include "ringweave/schedule/program/outline.h"
#include "ringweave/schedule/program/own_block.h"
#include "ringweave/schedule/program/tenancy.h"

namespace ringweave::schedule {
namespace {

/// Messages, sums and memory: all that needs no mask.
class Compiler {
 public:
  Compiler(const Schedule& part, Rank rank, const Demand& demand, int strands,
           const SideBySide& side_by_side, const PlacementOrder& order,
           const Program* forward)
      : part_(part),
        rank_(rank),
        own_(demand, rank, strands),
        outline_(make_outline(part, rank, side_by_side)),
        tenancies_(tenancies_of(part, rank)),
        placement_(
            place(part, rank, tenancies_, order,
                  forward ? forward->kept : std::map<BlockId, Place>())) {
    program_.rank = rank;
    program_.pass = part.pass;
    program_.packed_size = own_.size();
    program_.scratch_size = placement_.scratch_size;
    program_.kept_size = forward ? forward->kept_size : placement_.kept_size;
    program_.steps.resize(part.steps + 1);
  }

  Program run() {
    if (part_.pass == Pass::forward) list_kept();
    for (int i = 0; i < static_cast<int>(outline_.messages.size()); ++i) {
      add_message(i);
    }
    for (int i = 0; i < static_cast<int>(outline_.messages.size()); ++i) {
      Program::Message& message = program_.messages[i];
      // Gradients that arrived are added to before they go on.
      if (!message.outgoing || message.payload == Payload::kv_grad) continue;
      const int arrival = arrival_of(i);
      // Parts that several messages brought have no single arrival to wait for.
      if (arrival >= 0 &&
          program_.messages[arrival].place.contains(message.place)) {
        message.forwards = arrival;
      }
    }
    for (std::size_t step = 0; step < program_.steps.size(); ++step) {
      add_step(outline_.steps[step], program_.steps[step]);
    }
    return std::move(program_);
  }

  const Outline& outline() const { return outline_; }
  const OwnBlock& own() const { return own_; }
  /// Where a tile's keys are, and where its gradients go.
  Place keys(const Tile& tile) const {
    return place_in(tenancies_.of_keys[index_of(tile)], tile.block.part);
  }
  Place gradient(const Tile& tile) const {
    return place_in(tenancies_.of_gradient[index_of(tile)], tile.block.part);
  }

 private:
  template <typename Item>
  static std::size_t find(const std::vector<Item>& items, const Item& item) {
    const auto found = std::lower_bound(
        items.begin(), items.end(), item,
        [](const Item& a, const Item& b) { return before(a, b); });
    ensure(found != items.end() && *found == item, "an unsorted schedule");
    return static_cast<std::size_t>(found - items.begin());
  }
  std::size_t index_of(const Tile& tile) const {
    return find(part_.tiles, tile);
  }
  /// Of a message's part number i.
  std::size_t transfer_index(const Message& message, int i) const {
    Transfer transfer = message.first;
    transfer.block.part += i;
    return find(part_.transfers, transfer);
  }

  Place place_in(int tenancy, int part) const {
    const auto& tenants = tenancies_.all.at(tenancy).tenants;
    const auto found = std::ranges::find(tenants, part, &Tenant::part);
    return placement_.places[tenancy].at(found - tenants.begin());
  }

  void list_kept() {
    for (std::size_t i = 0; i < tenancies_.all.size(); ++i) {
      const Tenancy& tenancy = tenancies_.all[i];
      for (const Tenant& tenant : tenancy.tenants) {
        if (!tenant.retained) continue;
        program_
            .kept[{tenancy.block.owner, tenancy.block.strand, tenant.part}] =
            place_in(static_cast<int>(i), tenant.part);
      }
    }
  }

  Place part_place(const Message& message, int i) const {
    const std::size_t index = transfer_index(message, i);
    const Transfer& transfer = part_.transfers[index];
    if (transfer.to == rank_) {
      return place_in(tenancies_.of_target[index], transfer.block.part);
    }
    if (transfer.source_slot == kOwn) return own_.place(transfer.block);
    return place_in(tenancies_.of_source[index], transfer.block.part);
  }

  void add_message(int index) {
    const Message& message = outline_.messages[index];
    const Transfer& first = message.first;
    Place place = part_place(message, 0);
    for (int i = 1; i < message.parts; ++i) {
      const Place next = part_place(message, i);
      require(next.memory == place.memory && next.begin == place.end(),
              "[schedule] got parts of strand {} of rank {} that lie apart on "
              "rank {}, where one message has them; want parts of one message "
              "to arrive, or to be retained, together",
              first.block.strand, first.block.owner, rank_);
      place.size += next.size;
    }
    const bool outgoing = first.from == rank_;
    program_.messages.push_back({.peer = outgoing ? first.to : first.from,
                                 .outgoing = outgoing,
                                 .payload = first.payload,
                                 .place = place,
                                 .block = first.block,
                                 .parts = message.parts});
    if (outgoing) {
      program_.packs_keys |= first.source_slot == kOwn;
    } else {
      for (int i = 0; i < message.parts; ++i) {
        arrivals_[{tenancies_.of_target[transfer_index(message, i)],
                   first.block.part + i}] = index;
      }
    }
  }

  /// The message that brought the first part of what message `index` sends.
  int arrival_of(int index) const {
    const Message& message = outline_.messages[index];
    const std::size_t transfer = transfer_index(message, 0);
    const auto found = arrivals_.find(
        {tenancies_.of_source[transfer], message.first.block.part});
    return found == arrivals_.end() ? -1 : found->second;
  }

  void add_step(const Outline::Step& outline, Program::Step& step) {
    for (const int i : outline.waits) {
      (program_.messages[i].outgoing ? step.sent : step.arrivals).push_back(i);
    }
    step.receives = outline.receives;
    step.sends = outline.sends;
    std::vector<Program::Sum> sums;
    for (const int i : step.arrivals) add_sums(outline_.messages[i], sums);
    // Sums of one place keep the order of their senders.
    std::ranges::stable_sort(sums, {}, [](const Program::Sum& sum) {
      return std::tuple(sum.to.memory, sum.to.begin);
    });
    for (const Program::Sum& sum : sums) {
      program_.packs_gradients |= sum.to.memory == Memory::packed;
      append(step.sums, sum);
    }
  }

  void add_sums(const Message& message, std::vector<Program::Sum>& sums) {
    if (message.first.action != Action::add) return;
    std::vector<Program::Sum> of_message;
    for (int i = 0; i < message.parts; ++i) {
      const std::size_t index = transfer_index(message, i);
      const BlockId& block = part_.transfers[index].block;
      const int tenancy = tenancies_.of_sum[index];
      append(of_message,
             {part_place(message, i), tenancy == Tenancies::kNobody
                                          ? own_.place(block)
                                          : place_in(tenancy, block.part)});
    }
    sums.insert(sums.end(), of_message.begin(), of_message.end());
  }

  /// As a part of the last sum, if both places go on there.
  static void append(std::vector<Program::Sum>& sums, const Program::Sum& sum) {
    if (!sums.empty()) {
      Program::Sum& last = sums.back();
      if (last.from.memory == sum.from.memory &&
          last.to.memory == sum.to.memory &&
          last.from.end() == sum.from.begin && last.to.end() == sum.to.begin) {
        last.from.size += sum.from.size;
        last.to.size += sum.to.size;
        return;
      }
    }
    sums.push_back(sum);
  }

  const Schedule& part_;
  const Rank rank_;
  OwnBlock own_;
  Outline outline_;
  Tenancies tenancies_;
  Placement placement_;
  std::map<std::pair<int, int>, int> arrivals_;  // (tenancy, part) → message
  Program program_;
};

/// What is computed: the kernel calls of each step.
class CallMaker {
 public:
  CallMaker(const AttentionDemand& demand, int strands,
            const Compiler& compiler, Program& program)
      : demand_(demand),
        layout_(demand.kv_layout()),
        strands_(strands),
        compiler_(compiler),
        program_(program) {}

  void run() {
    for (int strand = 0; strand < strands_; ++strand) {
      for (int part = 0; part < layout_.parts(program_.rank); ++part) {
        pack({program_.rank, strand, part});
      }
    }
    if (backward()) decide_start_of_own_gradients();
    for (std::size_t i = 0; i < program_.steps.size(); ++i) {
      const std::vector<Tile>& tiles = compiler_.outline().steps[i].tiles;
      add_own_regions(tiles, program_.steps[i]);
      add_regions(tiles, program_.steps[i]);
    }
    const std::int64_t rows = demand_.q_layout().shard_tokens(program_.rank);
    const std::vector<Range> blind = rows_.missing({0, rows});
    program_.rows_to_clear.insert(program_.rows_to_clear.end(), blind.begin(),
                                  blind.end());
  }

 private:
  /// One block part as it lies in a region.
  struct Piece {
    Run positions;  ///< of its keys
    Place place;    ///< in its memory
    std::optional<Place> gradient;
  };

  bool backward() const { return program_.pass == Pass::backward; }
  bool is_own(const Tile& tile) const {
    return tile.slot == kOwn && tile.block.owner == program_.rank;
  }
  BlockPart part_of(const BlockId& block) const {
    return layout_.block_part(block.owner, block.strand, strands_, block.part);
  }

  void pack(const BlockId& block) {
    const Run local = part_of(block).local;
    if (local.length == 0) return;
    const std::int64_t begin = compiler_.own().place(block).begin;
    if (!program_.packing.empty()) {
      Program::Packed& last = program_.packing.back();
      if (last.local.stride == 1 && local.stride == 1 &&
          last.local.end() == local.begin) {
        last.local.length += local.length;
        return;
      }
    }
    program_.packing.push_back({begin, local});
  }

  void decide_start_of_own_gradients() {
    std::int64_t computed = 0;
    bool late = false;
    for (std::size_t i = 0; i < program_.steps.size(); ++i) {
      const std::int64_t before = computed;
      for (const Tile& tile : compiler_.outline().steps[i].tiles) {
        if (is_own(tile)) computed += part_of(tile.block).local.length;
      }
      const bool adds = std::ranges::any_of(
          program_.steps[i].sums, [](const Program::Sum& sum) {
            return sum.to.memory == Memory::packed;
          });
      late |= adds && before < program_.packed_size;
    }
    program_.packed_gradients_start_at_zero =
        late || computed < program_.packed_size;
  }

  /// All own tiles of a step at once if they are the whole shard, straight from
  /// the input; else each by itself.
  void add_own_regions(const std::vector<Tile>& tiles, Program::Step& step) {
    std::vector<Tile> own;
    std::ranges::copy_if(tiles, std::back_inserter(own),
                         [&](const Tile& tile) { return is_own(tile); });
    std::int64_t tokens = 0;
    for (const Tile& tile : own) tokens += part_of(tile.block).local.length;
    if (tokens == 0) return;
    if (tokens < program_.packed_size) {
      for (const Tile& tile : own) {
        const BlockPart part = part_of(tile.block);
        add_own_region({{part.positions, part.local}}, part.local, step);
      }
      return;
    }
    std::vector<BlockPart> runs;
    for (int part = 0; part < layout_.parts(program_.rank); ++part) {
      runs.push_back(layout_.block_part(program_.rank, 0, 1, part));
    }
    add_own_region(runs, {0, tokens, 1}, step);
  }

  /// Parts whose `local` runs make up `keys`.
  void add_own_region(const std::vector<BlockPart>& parts, const Run& keys,
                      Program::Step& step) {
    Program::Region region;
    region.memory = Memory::input;
    region.keys = keys;
    std::vector<Area> areas;
    std::int64_t offset = 0;
    for (const BlockPart& part : parts) {
      add_areas(part.positions, offset, areas);
      offset += part.local.length;
    }
    finish_region(std::move(areas), region);
    if (backward()) add_own_gradients(region);
    step.regions.push_back(std::move(region));
  }

  void add_own_gradients(Program::Region& region) {
    if (program_.packed_gradients_start_at_zero) {
      region.starts_at_zero = false;
      for (Program::Call& call : region.calls) call.first_for_keys = false;
    }
    if (!program_.packs_gradients) return;
    std::int64_t found = 0;
    for (const Program::Packed& packed : program_.packing) {
      // Of a region that is one part, the entry with its tokens or more.
      const Run& local = packed.local;
      if (region.keys.length == program_.packed_size) {
        region.gradients.push_back(
            {local, {Memory::packed, packed.begin, local.length}});
      } else if (local.begin <= region.keys.begin &&
                 region.keys.end() <= local.end() &&
                 (local.stride == 1 || local == region.keys)) {
        region.gradients.push_back(
            {{0, region.keys.length, 1},
             {Memory::packed, packed.begin + region.keys.begin - local.begin,
              region.keys.length}});
      } else {
        continue;
      }
      found += region.gradients.back().keys.length;
    }
    ensure(found == region.keys.length, "own keys without a packed gradient");
  }

  void add_regions(const std::vector<Tile>& tiles, Program::Step& step) {
    std::vector<Piece> pieces;
    for (const Tile& tile : tiles) {
      if (is_own(tile)) continue;
      pieces.push_back({part_of(tile.block).positions, compiler_.keys(tile),
                        backward() ? std::optional(compiler_.gradient(tile))
                                   : std::nullopt});
    }
    std::ranges::sort(pieces, {}, &Piece::place);
    for (auto begin = pieces.begin(); begin != pieces.end();) {
      auto end = std::next(begin);
      while (end != pieces.end() && end->place.memory == begin->place.memory &&
             end->place.begin == std::prev(end)->place.end()) {
        ++end;
      }
      add_region({begin, end}, step);
      begin = end;
    }
  }

  void add_region(std::span<const Piece> pieces, Program::Step& step) {
    Program::Region region;
    region.memory = pieces.front().place.memory;
    region.keys = {pieces.front().place.begin, 0, 1};
    std::vector<Area> areas;
    for (const Piece& piece : pieces) {
      add_areas(piece.positions, region.keys.length, areas);
      if (piece.gradient) add_gradient(*piece.gradient, region);
      region.keys.length += piece.place.size;
    }
    finish_region(std::move(areas), region);
    step.regions.push_back(std::move(region));
  }

  /// Of the keys that come next in the region.
  static void add_gradient(const Place& place, Program::Region& region) {
    const Run keys{region.keys.length, place.size, 1};
    if (!region.gradients.empty()) {
      Program::Region::Gradient& last = region.gradients.back();
      if (last.place.end() == place.begin && last.keys.end() == keys.begin) {
        last.place.size += place.size;
        last.keys.length += keys.length;
        return;
      }
    }
    region.gradients.push_back({keys, place});
  }

  /// Areas of keys that lie from `offset` on in a region.
  void add_areas(const Run& positions, std::int64_t offset,
                 std::vector<Area>& areas) const {
    for (Area area : demand_.areas(program_.rank, positions)) {
      ensure(all_rows_see_keys(area), "an area with rows that see no key");
      area.keys = moved(area.keys, offset);
      areas.push_back(area);
    }
  }

  /// But in a band of unequal strides, in which the caller looks for them. What
  /// a row sees moves with the row, so the first and the last tell of all.
  static bool all_rows_see_keys(const Area& area) {
    if (area.kind == Area::Kind::band &&
        area.band.row_stride != area.band.key_stride) {
      return true;
    }
    return !intersect(area.seen(0), area.keys).empty() &&
           !intersect(area.seen(area.rows.size() - 1), area.keys).empty();
  }

  void finish_region(std::vector<Area> areas, Program::Region& region) {
    join_areas(areas);
    Coverage covered;
    for (const Area& area : areas) {
      Program::Call call{.area = area};
      call.first_for_rows = is_first(area.rows, rows_, &program_.rows_to_clear);
      std::vector<Range> mixed;
      call.first_for_keys = is_first(area.keys, covered, &mixed);
      region.starts_at_zero |= !mixed.empty();
      region.calls.push_back(call);
    }
    if (!backward()) return;
    region.starts_at_zero |= !covered.missing({0, region.keys.length}).empty();
    if (!region.starts_at_zero) return;
    for (Program::Call& call : region.calls) call.first_for_keys = false;
  }

  /// Whether none of a range was covered; covers it. If some of it was, `mixed`
  /// gets the rest.
  static bool is_first(const Range& range, Coverage& coverage,
                       std::vector<Range>* mixed) {
    const std::vector<Range> missing = coverage.missing(range);
    coverage.add(range);
    if (missing.size() == 1 && missing.front() == range) return true;
    mixed->insert(mixed->end(), missing.begin(), missing.end());
    return false;
  }

  const AttentionDemand& demand_;
  const Layout& layout_;
  const int strands_;
  const Compiler& compiler_;
  Program& program_;
  Coverage rows_;
};

}  // namespace

std::int64_t Program::buffer_bytes(const UnitBytes& unit_bytes) const {
  std::int64_t bytes = 0;
  for (const auto& [payload, size] : scratch_size) {
    bytes += size * unit_bytes.at(payload);
  }
  return kept_size == 0 ? bytes
                        : bytes + kept_size * unit_bytes.at(Payload::kv);
}

std::map<Rank, std::int64_t> Program::sent_bytes(
    const UnitBytes& unit_bytes) const {
  std::map<Rank, std::int64_t> bytes;
  for (const Message& message : messages) {
    if (message.outgoing) {
      bytes[message.peer] +=
          message.place.size * unit_bytes.at(message.payload);
    }
  }
  return bytes;
}

int Program::posting_steps() const {
  const auto posts = [](const Step& step) {
    return !step.sends.empty() || !step.receives.empty();
  };
  const auto last = std::find_if(steps.rbegin(), steps.rend(), posts);
  return std::max(1, static_cast<int>(steps.rend() - last));
}

Program compile(const Schedule& part, Rank rank, const AttentionDemand& demand,
                int strands, const Program* forward) {
  const SideBySide together = side_by_side(demand, strands);
  const PlacementOrder order = {
      .side_by_side =
          [&](const BlockId& block) { return together(rank, block); },
      .key =
          [&](const BlockId& block) {
            const Run keys =
                demand.kv_layout()
                    .block_part(block.owner, block.strand, strands, block.part)
                    .positions;
            const std::vector<Area> areas = demand.areas(rank, keys);
            const Range rows = areas.empty() ? Range{} : areas.front().rows;
            return PlacementKey{rows.begin, rows.end, keys.begin, keys.stride};
          }};
  Compiler compiler(part, rank, demand, strands, together, order, forward);
  Program program = compiler.run();
  CallMaker(demand, strands, compiler, program).run();
  return program;
}

Program compile_summaries(const Schedule& part, Rank rank, const Demand& demand,
                          int strands) {
  return Compiler(part, rank, demand, strands, {}, {}, nullptr).run();
}

}  // namespace ringweave::schedule
