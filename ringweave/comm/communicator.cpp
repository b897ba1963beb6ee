#include "ringweave/comm/communicator.h"

#include <algorithm>
#include <optional>
#include <set>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/base/range.h"

namespace ringweave::comm {
namespace {

constexpr std::size_t kLengthBytes = 8;

std::vector<std::byte> encode_length(std::uint64_t length) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    bytes.push_back(static_cast<std::byte>(length >> (8 * i)));
  }
  return bytes;
}

std::uint64_t decode_length(std::span<const std::byte> bytes) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  }
  return length;
}

using Facts = std::map<std::string, std::string>;

std::string describe(const Facts& facts, const std::string& name) {
  const auto found = facts.find(name);
  return found == facts.end() ? "none" : '"' + found->second + '"';
}

/// Throws InvalidArgument if one of the ranks' facts are not those of rank 0.
void compare(const std::vector<Facts>& all) {
  std::set<std::string> names;
  for (const Facts& facts : all) {
    for (const auto& [name, text] : facts) names.insert(name);
  }
  for (const std::string& name : names) {
    const std::string wanted = describe(all[0], name);
    std::vector<Rank> different;
    for (Rank rank = 0; rank < static_cast<Rank>(all.size()); ++rank) {
      if (describe(all[rank], name) != wanted) different.push_back(rank);
    }
    if (different.empty()) continue;
    throw InvalidArgument(fmt::format(
        "[agreement] got {} {} on rank {}; want {} as on rank 0 (ranks that "
        "differ from rank 0: {})",
        name, describe(all[different[0]], name), different[0], wanted,
        fmt::join(different, ", ")));
  }
}

}  // namespace

std::int64_t Traffic::bytes() const {
  std::int64_t total = 0;
  for (const auto& [rank, link] : sent) total += link.bytes;
  return total;
}

void Traffic::note_buffers(std::int64_t bytes) {
  peak_buffer_bytes = std::max(peak_buffer_bytes, bytes);
}

Communicator::Communicator(std::shared_ptr<Transport> transport,
                           TimeOuts time_outs)
    : transport_(std::move(transport)), time_outs_(time_outs) {
  require(time_outs.start.count() > 0 && time_outs.step.count() > 0,
          "[communicator] got time-outs of {} ms and {} ms; want more than 0",
          time_outs.start.count(), time_outs.step.count());
}

std::unique_ptr<Work> Communicator::send(Rank to,
                                         std::span<const std::byte> bytes) {
  ensure(to >= 0 && to < size() && to != rank(),
         "rank {} of {} sends to rank {}", rank(), size(), to);
  ensure(!bytes.empty(), "rank {} sends no bytes to rank {}", rank(), to);
  auto work = transport_->send(to, bytes);
  Traffic::Sent& link = traffic_.sent[to];
  ++link.messages;
  link.bytes += static_cast<std::int64_t>(bytes.size());
  return work;
}

std::unique_ptr<Work> Communicator::receive(Rank from,
                                            std::span<std::byte> bytes) {
  ensure(from >= 0 && from < size() && from != rank(),
         "rank {} of {} receives from rank {}", rank(), size(), from);
  ensure(!bytes.empty(), "rank {} receives no bytes from rank {}", rank(),
         from);
  return transport_->receive(from, bytes);
}

void Communicator::wait(Work& work, const std::string& operation, int step) {
  wait_until(work, step_deadline(), operation, step);
}

void Communicator::wait_until(Work& work, Clock::time_point deadline,
                              const std::string& operation, int step) {
  const auto start = Clock::now();
  const auto count_time = [&] {
    const std::chrono::duration<double> waited = Clock::now() - start;
    traffic_.waiting_seconds += waited.count();
  };
  try {
    work.wait(deadline);
    count_time();
  } catch (const CommError& error) {
    count_time();
    CommError::Facts facts = error.facts();
    facts.operation = operation + ": " + facts.operation;
    facts.step = step;
    transport_->mark_failed(facts.peer >= 0 ? facts.peer : rank());
    facts.first_failed = transport_->first_failed().value_or(-1);
    // A peer timed out on this rank while it was itself waiting for another.
    if (facts.first_failed == rank()) facts.first_failed = facts.peer;
    throw CommError(std::move(facts));
  }
}

void Communicator::exchange(const std::vector<Incoming>& incoming,
                            const std::vector<Outgoing>& outgoing,
                            Clock::time_point deadline,
                            const std::string& operation) {
  std::vector<std::unique_ptr<Work>> works;
  for (const Incoming& message : incoming) {
    if (message.bytes.empty()) continue;
    works.push_back(receive(message.from, message.bytes));
  }
  for (const Outgoing& message : outgoing) {
    if (message.bytes.empty()) continue;
    works.push_back(send(message.to, message.bytes));
  }
  for (const auto& work : works) wait_until(*work, deadline, operation, -1);
}

std::vector<std::vector<std::byte>> Communicator::gather(
    std::span<const std::byte> bytes, Clock::time_point deadline,
    const std::string& operation) {
  const std::vector<std::byte> length = encode_length(bytes.size());
  std::vector<std::vector<std::byte>> all(size(),
                                          std::vector<std::byte>(kLengthBytes));
  const auto to_all = [&](std::span<const std::byte> mine) {
    std::vector<Incoming> incoming;
    std::vector<Outgoing> outgoing;
    for (Rank peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      incoming.push_back({peer, all[peer]});
      outgoing.push_back({peer, mine});
    }
    exchange(incoming, outgoing, deadline, operation);
  };
  to_all(length);
  for (auto& peers : all) peers.resize(decode_length(peers));
  to_all(bytes);
  all[rank()].assign(bytes.begin(), bytes.end());
  return all;
}

std::vector<std::vector<std::byte>> Communicator::all_gather(
    std::span<const std::byte> bytes) {
  return gather(bytes, step_deadline(), "all-gather");
}

std::vector<std::string> Communicator::all_gather(const std::string& text) {
  std::vector<std::string> texts;
  for (const auto& bytes : all_gather(std::as_bytes(std::span(text)))) {
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()),
                       bytes.size());
  }
  return texts;
}

template <typename T>
void Communicator::sum(std::span<T> values) {
  const auto piece = [&](Rank owner) {
    const Range range =
        cut({0, static_cast<std::int64_t>(values.size())}, owner, size());
    return values.subspan(range.begin, range.size());
  };
  const std::span<T> mine = piece(rank());
  std::vector<std::vector<T>> parts(size());
  std::vector<Incoming> incoming;
  std::vector<Outgoing> outgoing;
  for (Rank peer = 0; peer < size(); ++peer) {
    if (peer == rank()) {
      parts[peer].assign(mine.begin(), mine.end());
      continue;
    }
    parts[peer].resize(mine.size());
    incoming.push_back({peer, std::as_writable_bytes(std::span(parts[peer]))});
    outgoing.push_back({peer, std::as_bytes(piece(peer))});
  }
  exchange(incoming, outgoing, step_deadline(), "all-reduce: pieces");
  std::copy(parts[0].begin(), parts[0].end(), mine.begin());
  for (Rank peer = 1; peer < size(); ++peer) {
    for (std::size_t i = 0; i < mine.size(); ++i) mine[i] += parts[peer][i];
  }
  incoming.clear();
  outgoing.clear();
  for (Rank peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    incoming.push_back({peer, std::as_writable_bytes(piece(peer))});
    outgoing.push_back({peer, std::as_bytes(mine)});
  }
  exchange(incoming, outgoing, step_deadline(), "all-reduce: sums");
}

void Communicator::all_reduce_sum(std::span<double> values) { sum(values); }
void Communicator::all_reduce_sum(std::span<float> values) { sum(values); }

void Communicator::barrier() { barrier(step_deadline()); }

void Communicator::barrier(Clock::time_point deadline) {
  const std::byte mine{};
  std::vector<std::byte> theirs(size());
  std::vector<Incoming> incoming;
  std::vector<Outgoing> outgoing;
  for (Rank peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    incoming.push_back({peer, std::span(theirs).subspan(peer, 1)});
    outgoing.push_back({peer, std::span(&mine, 1)});
  }
  exchange(incoming, outgoing, deadline, "barrier");
}

void Communicator::check_agreement(const Facts& facts) {
  const auto deadline = Clock::now() + time_outs_.start;
  const std::vector<std::uint8_t> mine = Json::to_cbor(Json(facts));
  std::vector<Facts> all;
  for (const auto& bytes :
       gather(std::as_bytes(std::span(mine)), deadline, "agreement")) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    all.push_back(Json::from_cbor(data, data + bytes.size()).get<Facts>());
  }
  try {
    compare(all);
  } catch (const InvalidArgument&) {
    // A rank that fails makes the waits of the others fail: none may do so
    // before all have what they need to tell what differs.
    try {
      barrier(deadline);
    } catch (const CommError&) {  // a peer was through the barrier earlier
    }
    throw;
  }
}

}  // namespace ringweave::comm
