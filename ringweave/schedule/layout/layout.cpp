#include "ringweave/schedule/layout/layout.h"

#include <numeric>

#include <fmt/ranges.h>

#include "ringweave/base/error.h"

namespace ringweave::schedule {
namespace {

void check_ranks_and_tokens(std::int64_t tokens, int ranks) {
  require(ranks >= 1 && ranks <= kMaxRanks,
          "[layout] got {} ranks; want 1 … {}", ranks, kMaxRanks);
  require(tokens >= 0 && tokens <= kMaxTokens,
          "[layout] got {} tokens; want 0 … {}", tokens, kMaxTokens);
}

std::vector<std::vector<Run>> contiguous_runs(std::int64_t tokens, int ranks) {
  std::vector<std::vector<Run>> runs(ranks);
  for (Rank r = 0; r < ranks; ++r) {
    const Range piece = cut({0, tokens}, r, ranks);
    runs[r] = {{piece.begin, piece.size(), 1}};
  }
  return runs;
}

void check_run(const Run& run, Rank rank, std::int64_t tokens) {
  require(run.length >= 0 && run.stride >= 1 && run.begin >= 0 &&
              run.begin <= tokens && run.length <= tokens &&
              (run.length == 0 ||
               run.length - 1 <= (tokens - 1 - run.begin) / run.stride),
          "[layout] got a run [{}, {}, {}] (begin, length, stride) on rank {}; "
          "want stride >= 1 and all positions in 0 … {}",
          run.begin, run.length, run.stride, rank, tokens - 1);
}

}  // namespace

Range Run::indices_in(const Range& positions) const {
  const auto index = [&](std::int64_t position) {
    return std::clamp<std::int64_t>(ceil_div(position - begin, stride), 0,
                                    length);
  };
  const Range found = {index(positions.begin), index(positions.end)};
  return found.empty() ? Range{} : found;
}

Layout::Layout(Kind kind, std::int64_t tokens,
               std::vector<std::vector<Run>> runs)
    : kind_(kind), tokens_(tokens), runs_(std::move(runs)) {}

Layout Layout::contiguous(std::int64_t tokens, int ranks) {
  check_ranks_and_tokens(tokens, ranks);
  return Layout(Kind::contiguous, tokens, contiguous_runs(tokens, ranks));
}

Layout Layout::contiguous(const std::vector<std::int64_t>& lengths) {
  const int ranks = static_cast<int>(lengths.size());
  const std::int64_t tokens =
      std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  check_ranks_and_tokens(tokens, ranks);
  std::vector<std::vector<Run>> runs(ranks);
  std::int64_t begin = 0;
  for (Rank r = 0; r < ranks; ++r) {
    require(lengths[r] >= 0, "[layout] got {} tokens on rank {}; want >= 0",
            lengths[r], r);
    runs[r] = {{begin, lengths[r], 1}};
    begin += lengths[r];
  }
  const Kind kind = runs == contiguous_runs(tokens, ranks)
                        ? Kind::contiguous
                        : Kind::explicit_runs;
  return Layout(kind, tokens, std::move(runs));
}

Layout Layout::zigzag(std::int64_t tokens, int ranks) {
  check_ranks_and_tokens(tokens, ranks);
  std::vector<std::vector<Run>> runs(ranks);
  for (Rank r = 0; r < ranks; ++r) {
    const Range front = cut({0, tokens}, r, 2 * ranks);
    const Range back = cut({0, tokens}, 2 * ranks - 1 - r, 2 * ranks);
    runs[r] = {{front.begin, front.size(), 1}, {back.begin, back.size(), 1}};
  }
  return Layout(Kind::zigzag, tokens, std::move(runs));
}

Layout Layout::striped(std::int64_t tokens, int ranks) {
  check_ranks_and_tokens(tokens, ranks);
  std::vector<std::vector<Run>> runs(ranks);
  for (Rank r = 0; r < ranks; ++r) {
    const std::int64_t begin = std::min<std::int64_t>(r, tokens);
    runs[r] = {{begin, ceil_div(tokens - begin, ranks), ranks}};
  }
  return Layout(Kind::striped, tokens, std::move(runs));
}

namespace {

constexpr const char* kTwice = "[layout] got position {} twice; want each once";

// Straight runs are compared by their ends: a sequence may have millions of
// tokens, and a call may bring a new layout.
void check_straight_once(const std::vector<std::vector<Run>>& runs) {
  std::vector<Run> all;
  for (const auto& of_rank : runs) {
    std::copy_if(of_rank.begin(), of_rank.end(), std::back_inserter(all),
                 [](const Run& run) { return run.length > 0; });
  }
  std::sort(all.begin(), all.end(),
            [](const Run& a, const Run& b) { return a.begin < b.begin; });
  for (std::size_t i = 1; i < all.size(); ++i) {
    require(all[i].begin >= all[i - 1].begin + all[i - 1].length, kTwice,
            all[i].begin);
  }
}

void check_each_once(std::int64_t tokens,
                     const std::vector<std::vector<Run>>& runs) {
  const auto straight = [](const Run& run) {
    return run.stride == 1 || run.length <= 1;
  };
  if (std::all_of(runs.begin(), runs.end(), [&](const auto& of_rank) {
        return std::all_of(of_rank.begin(), of_rank.end(), straight);
      })) {
    check_straight_once(runs);
    return;
  }
  std::vector<bool> seen(tokens);
  for (const auto& of_rank : runs) {
    for (const Run& run : of_rank) {
      for (std::int64_t i = 0; i < run.length; ++i) {
        require(!seen[run.at(i)], kTwice, run.at(i));
        seen[run.at(i)] = true;
      }
    }
  }
}

}  // namespace

Layout Layout::from_runs(std::int64_t tokens,
                         std::vector<std::vector<Run>> runs) {
  check_ranks_and_tokens(tokens, static_cast<int>(runs.size()));
  // Lengths first: a file that claims more tokens than its runs hold must not
  // make us allocate for them.
  std::int64_t listed = 0;
  for (Rank r = 0; r < static_cast<int>(runs.size()); ++r) {
    for (const Run& run : runs[r]) {
      check_run(run, r, tokens);
      listed += run.length;
    }
    require(std::is_sorted(
                runs[r].begin(), runs[r].end(),
                [](const Run& a, const Run& b) { return a.begin < b.begin; }),
            "[layout] got runs of rank {} out of order; want ascending begins",
            r);
  }
  require(listed == tokens,
          "[layout] got runs of {} tokens in all; want each of {} once", listed,
          tokens);
  check_each_once(tokens, runs);
  return Layout(Kind::explicit_runs, tokens, std::move(runs));
}

Layout Layout::named(const std::string& name, std::int64_t tokens, int ranks) {
  if (name == "contiguous") return contiguous(tokens, ranks);
  if (name == "zigzag") return zigzag(tokens, ranks);
  if (name == "striped") return striped(tokens, ranks);
  throw InvalidArgument(fmt::format("[layout] got \"{}\"; want {}", name,
                                    fmt::join(names(), ", ")));
}

const std::vector<std::string>& Layout::names() {
  static const std::vector<std::string> names = {"contiguous", "zigzag",
                                                 "striped"};
  return names;
}

std::int64_t Layout::shard_tokens(Rank rank) const {
  std::int64_t tokens = 0;
  for (const Run& run : runs_[rank]) tokens += run.length;
  return tokens;
}

std::vector<std::int64_t> Layout::positions(Rank rank) const {
  std::vector<std::int64_t> positions;
  positions.reserve(shard_tokens(rank));
  for (const Run& run : runs_[rank]) {
    for (std::int64_t i = 0; i < run.length; ++i) {
      positions.push_back(run.at(i));
    }
  }
  return positions;
}

BlockPart Layout::block_part(Rank owner, int strand, int strands,
                             int part) const {
  const Run& run = runs_[owner][part];
  std::int64_t local = 0;
  for (int p = 0; p < part; ++p) local += runs_[owner][p].length;
  if (run.stride > 1) {
    const std::int64_t length =
        std::max<std::int64_t>(0, ceil_div(run.length - strand, strands));
    return {{run.at(strand), length, run.stride * strands},
            {local + strand, length, strands}};
  }
  const bool reversed = kind_ == Kind::zigzag && part == 1;
  const Range piece =
      cut({0, run.length}, reversed ? strands - 1 - strand : strand, strands);
  return {{run.at(piece.begin), piece.size(), 1},
          {local + piece.begin, piece.size(), 1}};
}

void Layout::check_runs(const std::string& where) const {
  require(kind_ != Kind::striped,
          "[{}] got \"striped\" with linear layers, which pass one state per "
          "contiguous run; want \"contiguous\" or \"zigzag\"",
          where);
  for (Rank r = 0; r < ranks(); ++r) {
    for (const Run& run : runs_[r]) {
      require(run.stride == 1 || run.length <= 1,
              "[{}] got a run of stride {} on rank {} with linear layers, "
              "which pass one state per contiguous run; want contiguous runs",
              where, run.stride, r);
    }
  }
}

std::vector<Segment> Layout::segments() const {
  check_runs("layout");
  std::vector<Segment> segments;
  for (Rank r = 0; r < ranks(); ++r) {
    std::int64_t local = 0;
    int index = 0;
    for (const Run& run : runs_[r]) {
      if (run.length == 0) continue;
      if (index > 0 && segments.back().positions.end == run.begin) {
        segments.back().positions.end = run.end();
      } else {
        segments.push_back({r, index++, {run.begin, run.end()}, local});
      }
      local += run.length;
    }
  }
  std::sort(segments.begin(), segments.end(),
            [](const Segment& a, const Segment& b) {
              return a.positions.begin < b.positions.begin;
            });
  return segments;
}

Json Layout::to_json() const {
  if (kind_ != Kind::explicit_runs) {
    return {{"kind", names()[static_cast<std::size_t>(kind_)]},
            {"tokens", tokens_},
            {"ranks", ranks()}};
  }
  Json runs = Json::array();
  for (const auto& rank_runs : runs_) {
    Json listed = Json::array();
    for (const Run& run : rank_runs) {
      listed.push_back({run.begin, run.length, run.stride});
    }
    runs.push_back(listed);
  }
  return {{"kind", "explicit"}, {"tokens", tokens_}, {"runs", runs}};
}

Layout Layout::from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  std::vector<std::string> kinds = names();
  kinds.emplace_back("explicit");
  const std::string kind = object.choice("kind", kinds);
  const std::int64_t tokens = object.integer("tokens", 0);
  if (kind != "explicit") {
    const auto ranks = object.integer("ranks", 1);
    object.done();
    require(ranks <= kMaxRanks, "[{}.ranks] got {}; want 1 … {}", path, ranks,
            kMaxRanks);
    return named(kind, tokens, static_cast<int>(ranks));
  }
  const Json& listed = object.value("runs");
  object.done();
  std::vector<std::vector<Run>> runs;
  const auto wanted = [&](bool ok) {
    require(ok,
            "[json] {}.runs: want a list per rank of [begin, length, stride]",
            path);
  };
  wanted(listed.is_array());
  for (const Json& rank_runs : listed) {
    wanted(rank_runs.is_array());
    runs.emplace_back();
    for (const Json& run : rank_runs) {
      wanted(run.is_array() && run.size() == 3 &&
             std::all_of(run.begin(), run.end(), [](const Json& number) {
               return number.is_number_integer();
             }));
      runs.back().push_back({run[0].get<std::int64_t>(),
                             run[1].get<std::int64_t>(),
                             run[2].get<std::int64_t>()});
    }
  }
  return from_runs(tokens, std::move(runs));
}

}  // namespace ringweave::schedule
