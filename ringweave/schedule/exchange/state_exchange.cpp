#include "ringweave/schedule/exchange/state_exchange.h"

#include <utility>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"

namespace ringweave::schedule {
namespace {

/// One line per kind.
std::vector<StateExchangeKind>& kinds() {
  static std::vector<StateExchangeKind> all = {
      chain(), pipelined_chain(), sharded_scan(), log_step(), all_gather(),
  };
  return all;
}

std::vector<std::string> kind_names() {
  std::vector<std::string> names;
  for (const StateExchangeKind& kind : kinds()) names.push_back(kind.name);
  return names;
}

}  // namespace

std::optional<std::string> StateExchange::why_not(int ranks) const {
  try {
    strands(ranks);
    return std::nullopt;
  } catch (const NoSolution& error) {
    return error.what();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
}

StateExchangePtr state_exchange_from_name(const std::string& name) {
  const std::size_t colon = name.find(':');
  const std::string kind = name.substr(0, colon);
  const StateExchangeKind& found =
      kinds()[place_of(kind, kind_names(), "exchange")];
  if (colon == std::string::npos) return found.make({});
  const std::string parameters = name.substr(colon + 1);
  require(!parameters.empty(),
          "[exchange] got \"{}\"; want parameters after the colon", name);
  return found.make(parameters);
}

std::vector<StateExchangePtr> all_exchanges(int nodes) {
  std::vector<StateExchangePtr> all;
  for (const StateExchangeKind& kind : kinds()) {
    for (StateExchangePtr& exchange : kind.candidates(nodes)) {
      all.push_back(std::move(exchange));
    }
  }
  return all;
}

void add_state_exchange(StateExchangeKind kind) {
  for (const StateExchangeKind& other : kinds()) {
    require(other.name != kind.name,
            "[exchange] got a second \"{}\"; want another name", kind.name);
  }
  kinds().push_back(std::move(kind));
}

void check_no_parameters(const std::string& kind,
                         const std::string& parameters) {
  require(parameters.empty(),
          "[exchange] got \"{0}:{1}\"; want {0}, which has no parameters", kind,
          parameters);
}

}  // namespace ringweave::schedule
