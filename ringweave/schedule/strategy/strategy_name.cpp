#include <algorithm>
#include <charconv>
#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/limits.h"
#include "ringweave/schedule/strategy/strategy.h"

namespace ringweave::schedule {
namespace {

struct Row {
  const char* name;
  StrategyKind kind;
  const char* example = nullptr;  ///< a whole name, where parameters are needed
};

constexpr const char* kReverseRing = "ring_reverse";
constexpr Row kTable[] = {
    {"ring", StrategyKind::ring},
    {"multi_ring", StrategyKind::multi_ring},
    {"time_varying_multi_ring", StrategyKind::time_varying_multi_ring},
    {"direct", StrategyKind::direct},
    {"all_gather", StrategyKind::all_gather},
    {"paths", StrategyKind::paths, "paths:nodes=2"},
    {"double_ring", StrategyKind::double_ring, "double_ring:nodes=2"},
    {"hierarchical", StrategyKind::hierarchical, "hierarchical:nodes=2"},
    {"rings", StrategyKind::rings},
    {"synthesised", StrategyKind::synthesised},
};

const Row& row_of(StrategyKind kind) {
  const auto* row = std::ranges::find(kTable, kind, &Row::kind);
  if (row == std::end(kTable)) {
    throw InternalError("bug in ringweave: a kind of strategy without a name");
  }
  return *row;
}

bool needs_data(StrategyKind kind) {
  return kind == StrategyKind::rings || kind == StrategyKind::synthesised;
}

bool has_nodes(StrategyKind kind) { return row_of(kind).example != nullptr; }

int positive(std::string_view text, const std::string& name, const char* want,
             int most) {
  int number = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  require(
      error == std::errc{} && stopped == end && number >= 1 && number <= most,
      "[strategy] got \"{}\"; want {}, at most {}", name, want, most);
  return number;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> pieces;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    pieces.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return pieces;
}

StrategyKind inner_from_name(std::string_view word) {
  for (const StrategyKind kind :
       {StrategyKind::direct, StrategyKind::ring, StrategyKind::multi_ring,
        StrategyKind::time_varying_multi_ring}) {
    if (word == row_of(kind).name) return kind;
  }
  throw InvalidArgument(
      fmt::format("[strategy] got inner={}; want direct, ring, multi_ring or "
                  "time_varying_multi_ring",
                  word));
}

// `parameters` is what follows the colon.
Strategy with_nodes(StrategyKind kind, std::string_view parameters,
                    const std::string& name) {
  const bool sliced = kind == StrategyKind::hierarchical;
  Strategy strategy{.kind = kind};
  std::vector<std::string_view> seen;
  const auto pieces =
      parameters.empty() ? std::vector<std::string_view>() : split(parameters);
  for (const std::string_view piece : pieces) {
    const std::size_t equals = std::min(piece.find('='), piece.size());
    const std::string_view key = piece.substr(0, equals);
    const std::string_view value =
        piece.substr(std::min(equals + 1, piece.size()));
    require(std::ranges::find(seen, key) == seen.end(),
            "[strategy] got \"{}\"; want {} once", name, key);
    seen.push_back(key);
    if (key == "nodes") {
      strategy.nodes = positive(value, name, "nodes=u with u >= 1", kMaxRanks);
    } else if (key == "slices" && sliced) {
      strategy.slices =
          positive(value, name, "slices=k with k >= 1", kMaxStrands);
    } else if (key == "inner" && sliced) {
      strategy.inner = inner_from_name(value);
    } else {
      throw InvalidArgument(fmt::format(
          "[strategy] got \"{}\"; want nodes=u{} after {}:", name,
          sliced ? ", slices=k and inner=strategy" : "", row_of(kind).name));
    }
  }
  require(strategy.nodes > 0,
          "[strategy] got \"{}\"; want the number of nodes, such as {}", name,
          row_of(kind).example);
  return strategy;
}

[[noreturn]] void unknown(const std::string& name, const std::string& word) {
  std::vector<std::string> known = {kReverseRing};
  for (const Row& row : kTable) known.emplace_back(row.name);
  const std::optional<std::string> near = nearest(word, known);
  throw InvalidArgument(
      fmt::format("[strategy] got \"{}\"; {}want one of {}", name,
                  near ? fmt::format("did you mean \"{}\"? ", *near) : "",
                  fmt::join(strategy_names(), ", ")));
}

std::vector<topology::Ring> rings_from_json(const Json& json,
                                            const std::string& path) {
  require(json.is_array() && !json.empty(),
          "[{}] got {}; want a list of rings, each a list of ranks", path,
          json.dump());
  std::vector<topology::Ring> rings;
  for (const Json& ring : json) {
    require(ring.is_array() &&
                std::ranges::all_of(
                    ring,
                    [](const Json& rank) { return rank.is_number_integer(); }),
            "[{}] got {}; want a list of ranks", path, ring.dump());
    rings.emplace_back(ring.get<std::vector<Rank>>());
  }
  return rings;
}

}  // namespace

bool operator==(const Strategy& a, const Strategy& b) {
  const auto same = [](const auto& x, const auto& y, auto equal) {
    return x == y || (x && y && equal(*x, *y));
  };
  return a.kind == b.kind && a.reverse == b.reverse && a.strands == b.strands &&
         a.nodes == b.nodes && a.slices == b.slices && a.inner == b.inner &&
         same(a.rings, b.rings,
              [](const auto& x, const auto& y) {
                return std::ranges::equal(x, y, {}, &topology::Ring::order,
                                          &topology::Ring::order);
              }) &&
         same(a.trees, b.trees, std::equal_to<>{});
}

Strategy strategy_from_name(const std::string& name) {
  if (name == kReverseRing) {
    return {.kind = StrategyKind::ring, .reverse = true};
  }
  const std::size_t colon = std::min(name.find(':'), name.size());
  const std::string word = name.substr(0, colon);
  const auto* row = std::ranges::find(kTable, word, &Row::name);
  if (row == std::end(kTable)) unknown(name, word);
  require(!needs_data(row->kind),
          "[strategy] got \"{}\", which needs more than a name; want a plan "
          "file that holds it, or one of {}",
          name, fmt::join(strategy_names(), ", "));
  const bool plain = colon == name.size();
  const std::string_view parameters =
      std::string_view(name).substr(plain ? colon : colon + 1);
  if (has_nodes(row->kind)) return with_nodes(row->kind, parameters, name);
  if (plain) return {.kind = row->kind};
  require(row->kind == StrategyKind::direct,
          "[strategy] got \"{}\"; want {} without parameters", name, word);
  return {.kind = row->kind,
          .strands = positive(parameters, name,
                              "direct:k with a number of strands k >= 1",
                              kMaxStrands)};
}

std::string name(const Strategy& strategy) {
  if (strategy.reverse) {
    require(strategy.kind == StrategyKind::ring,
            "[strategy] got {} in reverse; want ring, which has a direction",
            row_of(strategy.kind).name);
    return kReverseRing;
  }
  std::string text = row_of(strategy.kind).name;
  if (strategy.kind == StrategyKind::direct && strategy.strands > 0) {
    text += fmt::format(":{}", strategy.strands);
  }
  if (!has_nodes(strategy.kind)) return text;
  text += fmt::format(":nodes={}", strategy.nodes);
  if (strategy.kind != StrategyKind::hierarchical) return text;
  if (strategy.slices > 0) text += fmt::format(",slices={}", strategy.slices);
  if (strategy.inner != StrategyKind::direct) {
    text += fmt::format(",inner={}", row_of(strategy.inner).name);
  }
  return text;
}

std::vector<std::string> strategy_names() {
  std::vector<std::string> names;
  for (const Row& row : kTable) {
    if (needs_data(row.kind)) continue;
    names.emplace_back(row.example ? row.example : row.name);
    if (row.kind == StrategyKind::ring) names.emplace_back(kReverseRing);
  }
  return names;
}

std::vector<std::string> split_strategy_names(std::string_view list) {
  std::vector<std::string> names;
  for (const std::string_view piece : split(list)) {
    const bool parameter = piece.find('=') < piece.find(':');
    if (parameter && !names.empty()) {
      names.back().append(",").append(piece);
    } else {
      names.emplace_back(piece);
    }
  }
  return names;
}

Json to_json(const Strategy& strategy) {
  Json json = {{"name", name(strategy)}};
  if (strategy.rings) {
    Json rings = Json::array();
    for (const auto& ring : *strategy.rings) rings.push_back(ring.order());
    json["rings"] = std::move(rings);
  }
  if (strategy.trees) json["trees"] = to_json(*strategy.trees);
  return json;
}

Strategy strategy_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  const std::string word = object.string("name");
  Strategy strategy;
  if (word == row_of(StrategyKind::rings).name) {
    strategy.kind = StrategyKind::rings;
    strategy.rings = std::make_shared<const std::vector<topology::Ring>>(
        rings_from_json(object.value("rings"), path + ".rings"));
  } else if (word == row_of(StrategyKind::synthesised).name) {
    // Older programs wrote "routes".
    const std::string key = object.has("routes") ? "routes" : "trees";
    strategy.kind = StrategyKind::synthesised;
    strategy.trees = std::make_shared<const Trees>(
        trees_from_json(object.value(key), path + "." + key));
  } else {
    strategy = strategy_from_name(word);
  }
  object.done();
  return strategy;
}

}  // namespace ringweave::schedule
