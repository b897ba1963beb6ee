#include "ringweave/schedule/schedule.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

constexpr int kScheduleVersion = 1;
constexpr const char* kScheduleFormat = "ringweave.schedule";

const std::vector<std::string> kPassNames = {"forward", "backward"};
const std::vector<std::string> kPayloadNames = {"kv", "kv_grad", "q", "out_lse",
                                                "summary"};
const std::vector<std::string> kActionNames = {"copy", "add", "compose"};

template <typename Enum>
Enum read_enum(JsonObject& object, const std::string& key,
               const std::vector<std::string>& words) {
  const std::string word = object.choice(key, words);
  const auto found = std::find(words.begin(), words.end(), word);
  return static_cast<Enum>(found - words.begin());
}

int to_int(std::int64_t value, std::int64_t min, const std::string& field) {
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  require(value >= min && value <= kMax, "[{}] got {}; want {} … {}", field,
          value, min, kMax);
  return static_cast<int>(value);
}

int read_int(JsonObject& object, const std::string& key, int min) {
  return to_int(object.integer(key, min), min, object.path() + "." + key);
}

Json id_json(const BlockId& id) { return {id.owner, id.strand, id.part}; }

BlockId read_id(JsonObject& object) {
  const std::vector<std::int64_t> numbers = object.integers("block");
  const std::string field = object.path() + ".block";
  require(numbers.size() == 3,
          "[{}] got {} numbers; want 3: owner, strand, part", field,
          numbers.size());
  require(numbers[1] < kMaxStrands, "[{}] got strand {}; want 0 … {}", field,
          numbers[1], kMaxStrands - 1);
  return {to_int(numbers[0], 0, field), to_int(numbers[1], 0, field),
          to_int(numbers[2], 0, field)};
}

// Reads the list `key` of objects by `read`, which gets one JsonObject.
template <typename T, typename Read>
std::vector<T> read_list(JsonObject& object, const std::string& key,
                         Read read) {
  const Json& list = object.value(key);
  const std::string path = object.path() + "." + key;
  require(list.is_array(), "[{}] got {}; want a list", path, list.type_name());
  std::vector<T> result;
  result.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    JsonObject entry(list[i], fmt::format("{}[{}]", path, i));
    result.push_back(read(entry));
    entry.done();
  }
  return result;
}

Block read_block(JsonObject& object) {
  return {read_id(object), object.integer("size", 1)};
}

Transfer read_transfer(JsonObject& object) {
  Transfer transfer;
  transfer.from = read_int(object, "from", 0);
  transfer.to = read_int(object, "to", 0);
  transfer.block = read_id(object);
  transfer.payload = read_enum<Payload>(object, "payload", kPayloadNames);
  transfer.action = read_enum<Action>(object, "action", kActionNames);
  transfer.post_step = read_int(object, "post_step", 0);
  transfer.wait_step = read_int(object, "wait_step", 0);
  transfer.source_slot = read_int(object, "source_slot", kOwn);
  transfer.slot = read_int(object, "slot", 0);
  return transfer;
}

Tile read_tile(JsonObject& object) {
  Tile tile;
  tile.rank = read_int(object, "rank", 0);
  tile.step = read_int(object, "step", 0);
  tile.block = read_id(object);
  tile.slot = read_int(object, "slot", kOwn);
  tile.grad_slot = read_int(object, "grad_slot", kOwn);
  return tile;
}

Retained read_retained(JsonObject& object) {
  return {read_int(object, "rank", 0), read_id(object),
          read_int(object, "slot", 0)};
}

auto find_block(const Schedule& schedule, const BlockId& id) {
  return std::lower_bound(schedule.blocks.begin(), schedule.blocks.end(), id,
                          [](const Block& block, const BlockId& wanted) {
                            return block.id < wanted;
                          });
}

}  // namespace

// Spelt out: sorting takes much of the time of making a schedule, and comparing
// tuples of references is slow.
bool before(const Transfer& a, const Transfer& b) {
  if (a.post_step != b.post_step) return a.post_step < b.post_step;
  if (a.from != b.from) return a.from < b.from;
  if (a.to != b.to) return a.to < b.to;
  if (a.block.owner != b.block.owner) return a.block.owner < b.block.owner;
  if (a.block.strand != b.block.strand) return a.block.strand < b.block.strand;
  if (a.block.part != b.block.part) return a.block.part < b.block.part;
  return a < b;
}

bool before(const Tile& a, const Tile& b) {
  if (a.step != b.step) return a.step < b.step;
  if (a.rank != b.rank) return a.rank < b.rank;
  if (a.block.owner != b.block.owner) return a.block.owner < b.block.owner;
  if (a.block.strand != b.block.strand) return a.block.strand < b.block.strand;
  if (a.block.part != b.block.part) return a.block.part < b.block.part;
  return a < b;
}

std::int64_t block_size(const Schedule& schedule, const BlockId& block) {
  const auto found = find_block(schedule, block);
  return found != schedule.blocks.end() && found->id == block ? found->size : 0;
}

int strand_count(const Schedule& schedule) {
  int count = 1;
  for (const Block& block : schedule.blocks) {
    count = std::max(count, block.id.strand + 1);
  }
  return count;
}

LinkTraffic link_traffic(const Schedule& schedule) {
  LinkTraffic traffic;
  for (const Transfer& transfer : schedule.transfers) {
    traffic[{transfer.from, transfer.to}][transfer.payload] +=
        block_size(schedule, transfer.block);
  }
  return traffic;
}

std::map<int, std::int64_t> slot_sizes(const Schedule& schedule, Rank rank,
                                       Payload payload) {
  std::set<BlockId> retained;
  for (const Retained& kept : schedule.retained) {
    if (kept.rank == rank && payload == Payload::kv) {
      retained.insert(kept.block);
    }
  }
  std::map<int, std::int64_t> sizes;
  const auto hold = [&](int slot, const BlockId& block) {
    std::int64_t& size = sizes[slot];
    size = std::max(size,
                    part_offset(schedule, block) + block_size(schedule, block));
  };
  for (const Transfer& transfer : schedule.transfers) {
    if (transfer.to == rank && transfer.payload == payload &&
        !retained.contains(transfer.block)) {
      hold(transfer.slot, transfer.block);
    }
  }
  if (schedule.pass == Pass::forward || payload != Payload::kv_grad) {
    return sizes;
  }
  for (const Tile& tile : schedule.tiles) {
    if (tile.rank == rank && tile.grad_slot != kOwn) {
      hold(tile.grad_slot, tile.block);
    }
  }
  return sizes;
}

std::int64_t retained_size(const Schedule& schedule, Rank rank) {
  std::int64_t size = 0;
  for (const Retained& kept : schedule.retained) {
    if (kept.rank == rank) size += block_size(schedule, kept.block);
  }
  return size;
}

std::int64_t buffer_bytes(const Schedule& schedule, Rank rank,
                          const UnitBytes& unit_bytes) {
  std::int64_t bytes = 0;
  for (const auto& [payload, per_unit] : unit_bytes) {
    for (const auto& [slot, size] : slot_sizes(schedule, rank, payload)) {
      bytes += size * per_unit;
    }
    if (payload == Payload::kv) {
      bytes += retained_size(schedule, rank) * per_unit;
    }
  }
  return bytes;
}

std::int64_t part_offset(const Schedule& schedule, const BlockId& block) {
  std::int64_t offset = 0;
  for (auto found = find_block(schedule, {block.owner, block.strand, 0});
       found != schedule.blocks.end() && found->id < block; ++found) {
    offset += found->size;
  }
  return offset;
}

const char* name(Pass pass) {
  return kPassNames[static_cast<int>(pass)].c_str();
}

const char* name(Payload payload) {
  return kPayloadNames[static_cast<int>(payload)].c_str();
}

const char* name(Action action) {
  return kActionNames[static_cast<int>(action)].c_str();
}

Json to_json(const Schedule& schedule) {
  Json blocks = Json::array();
  for (const Block& block : schedule.blocks) {
    blocks.push_back({{"block", id_json(block.id)}, {"size", block.size}});
  }
  Json transfers = Json::array();
  for (const Transfer& t : schedule.transfers) {
    transfers.push_back({{"from", t.from},
                         {"to", t.to},
                         {"block", id_json(t.block)},
                         {"payload", name(t.payload)},
                         {"action", name(t.action)},
                         {"post_step", t.post_step},
                         {"wait_step", t.wait_step},
                         {"source_slot", t.source_slot},
                         {"slot", t.slot}});
  }
  Json tiles = Json::array();
  for (const Tile& tile : schedule.tiles) {
    tiles.push_back({{"rank", tile.rank},
                     {"step", tile.step},
                     {"block", id_json(tile.block)},
                     {"slot", tile.slot},
                     {"grad_slot", tile.grad_slot}});
  }
  Json retained = Json::array();
  for (const Retained& kept : schedule.retained) {
    retained.push_back({{"rank", kept.rank},
                        {"block", id_json(kept.block)},
                        {"slot", kept.slot}});
  }
  return {{"format", kScheduleFormat},         {"version", kScheduleVersion},
          {"ranks", schedule.ranks},           {"pass", name(schedule.pass)},
          {"steps", schedule.steps},           {"blocks", std::move(blocks)},
          {"transfers", std::move(transfers)}, {"tiles", std::move(tiles)},
          {"retained", std::move(retained)}};
}

Schedule schedule_from_json(const Json& json, const std::string& name) {
  JsonObject object(json, name);
  check_format(object, kScheduleFormat, kScheduleVersion);
  Schedule schedule;
  schedule.ranks = read_int(object, "ranks", 1);
  schedule.pass = read_enum<Pass>(object, "pass", kPassNames);
  schedule.steps = read_int(object, "steps", 1);
  require(schedule.steps <= kMaxSteps, "[{}.steps] got {}; want 1 … {}", name,
          schedule.steps, kMaxSteps);
  schedule.blocks = read_list<Block>(object, "blocks", read_block);
  schedule.transfers = read_list<Transfer>(object, "transfers", read_transfer);
  schedule.tiles = read_list<Tile>(object, "tiles", read_tile);
  schedule.retained = read_list<Retained>(object, "retained", read_retained);
  object.done();
  std::sort(schedule.blocks.begin(), schedule.blocks.end(),
            [](const Block& a, const Block& b) { return a.id < b.id; });
  const auto in_order = [](const auto& a, const auto& b) {
    return before(a, b);
  };
  std::sort(schedule.transfers.begin(), schedule.transfers.end(), in_order);
  std::sort(schedule.tiles.begin(), schedule.tiles.end(), in_order);
  std::sort(schedule.retained.begin(), schedule.retained.end());
  return schedule;
}

}  // namespace ringweave::schedule
