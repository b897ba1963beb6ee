#include "ringweave/comm/all_gather_json.h"

#include <cstdint>
#include <span>

namespace ringweave::comm {

std::vector<Json> all_gather_json(const Json& mine,
                                  Communicator& communicator) {
  const std::vector<std::uint8_t> bytes = Json::to_cbor(mine);
  std::vector<Json> all;
  for (const auto& theirs :
       communicator.all_gather(std::as_bytes(std::span(bytes)))) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(theirs.data());
    all.push_back(Json::from_cbor(data, data + theirs.size()));
  }
  return all;
}

}  // namespace ringweave::comm
