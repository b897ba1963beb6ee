#include "ringweave/schedule/strategy/trees.h"

#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"
#include "ringweave/schedule/schedule.h"

namespace ringweave::schedule {
namespace {

constexpr const char* kTreesWhere = "[trees]";

void check_tree(const Trees& trees, Rank owner, int strand) {
  const std::vector<Hop>& hops = trees.hops[owner * trees.strands + strand];
  constexpr int kNever = -1;
  std::vector<int> there(trees.ranks, kNever);  // step in which it is there
  there[owner] = 0;
  int last = 0;
  for (const Hop& hop : hops) {
    const auto complain = [&](const char* why) {
      throw InvalidArgument(fmt::format(
          "{} owner {}, strand {}: impossible hop from {} to {} in step {}: {}",
          kTreesWhere, owner, strand, hop.from, hop.to, hop.step, why));
    };
    const auto in_range = [&](Rank rank) {
      return rank >= 0 && rank < trees.ranks;
    };
    if (!in_range(hop.from) || !in_range(hop.to)) complain("no such rank");
    if (hop.step < last || hop.step >= trees.steps) {
      complain("want hops in order of steps, none past the last step");
    }
    if (there[hop.from] == kNever || there[hop.from] > hop.step) {
      complain("the sender does not have the block by then");
    }
    if (there[hop.to] != kNever) complain("the receiver has the block");
    there[hop.to] = hop.step + 1;
    last = hop.step;
  }
  for (Rank rank = 0; rank < trees.ranks; ++rank) {
    require(there[rank] != kNever,
            "{} owner {}, strand {}: no hop brings the block to rank {}",
            kTreesWhere, owner, strand, rank);
  }
}

}  // namespace

void check(const Trees& trees) {
  require(trees.ranks >= 1 && trees.strands >= 1 && trees.steps >= 0,
          "{} got {} ranks, {} strands, {} steps; want at least 1, 1, 0",
          kTreesWhere, trees.ranks, trees.strands, trees.steps);
  const std::size_t want = std::size_t{1} * trees.ranks * trees.strands;
  require(
      trees.hops.size() == want,
      "{} got hops of {} blocks; want {}, one list for each owner and strand",
      kTreesWhere, trees.hops.size(), want);
  for (Rank owner = 0; owner < trees.ranks; ++owner) {
    for (int strand = 0; strand < trees.strands; ++strand) {
      check_tree(trees, owner, strand);
    }
  }
}

Json to_json(const Trees& trees) {
  Json all = Json::array();
  for (const std::vector<Hop>& hops : trees.hops) {
    Json list = Json::array();
    for (const Hop& hop : hops) list.push_back({hop.from, hop.to, hop.step});
    all.push_back(std::move(list));
  }
  return {{"ranks", trees.ranks},
          {"strands", trees.strands},
          {"steps", trees.steps},
          {"hops", std::move(all)}};
}

Trees trees_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  const auto read = [&](const char* key, std::int64_t min, int most) {
    const std::int64_t value = object.integer(key, min);
    require(value <= most, "[{}.{}] got {}; want at most {}", path, key, value,
            most);
    return static_cast<int>(value);
  };
  Trees trees{.ranks = read("ranks", 1, kMaxRanks),
              .strands = read("strands", 1, kMaxStrands),
              .steps = read("steps", 0, kMaxSteps),
              .hops = {}};
  const Json& all = object.value("hops");
  object.done();
  require(all.is_array(), "[{}.hops] got {}; want a list", path,
          all.type_name());
  for (const Json& list : all) {
    require(list.is_array(), "[{}.hops] got {}; want lists of hops", path,
            list.type_name());
    std::vector<Hop> hops;
    for (const Json& hop : list) {
      require(hop.is_array() && hop.size() == 3 && hop[0].is_number_integer() &&
                  hop[1].is_number_integer() && hop[2].is_number_integer(),
              "[{}.hops] got {}; want [from, to, step]", path, hop.dump());
      hops.push_back({hop[0].get<int>(), hop[1].get<int>(), hop[2].get<int>()});
    }
    trees.hops.push_back(std::move(hops));
  }
  check(trees);
  return trees;
}

}  // namespace ringweave::schedule
