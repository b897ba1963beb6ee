// For tests of transports: messages of integers, and what went wrong with them.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/comm/transport.h"

namespace ringweave::comm {

using Ints = std::vector<std::int64_t>;

/// A batch of one message, whose values the caller keeps.
inline std::unique_ptr<Work> send(Transport& transport, Rank to,
                                  const Ints& values) {
  const Send one{.to = to, .buffer = borrowed(std::span(values))};
  return std::move(
      transport.post({.receives = {}, .sends = {&one, 1}}, {}).front());
}
inline std::unique_ptr<Work> receive(Transport& transport, Rank from,
                                     Ints& values) {
  const Receive one{.from = from, .buffer = borrowed(std::span(values))};
  return std::move(
      transport.post({.receives = {&one, 1}, .sends = {}}, {}).front());
}

inline Clock::time_point soon(
    std::chrono::milliseconds time = std::chrono::seconds(20)) {
  return Clock::now() + time;
}

/// The facts of the CommError in `error`; fails the test if there is none.
inline CommError::Facts facts(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
    ADD_FAILURE() << "no error";
  } catch (const CommError& comm_error) {
    return comm_error.facts();
  } catch (const std::exception& other) {
    ADD_FAILURE() << "not a CommError: " << other.what();
  }
  return {};
}

/// Every rank sends `messages` messages of different lengths to every other and
/// checks what it receives.
inline void exchange(Rank rank, Transport& transport, int messages) {
  const int ranks = transport.size();
  const auto content = [&](Rank from, Rank to, int i) {
    Ints values(1 + (from + 3 * to + i) % 50);
    std::iota(values.begin(), values.end(), from * 1000 + to * 100 + i);
    return values;
  };
  std::vector<Ints> sent, received;
  Works works;
  for (int i = 0; i < messages; ++i) {
    for (Rank peer = 0; peer < ranks; ++peer) {
      if (peer == rank) continue;
      sent.push_back(content(rank, peer, i));
      received.push_back(Ints(content(peer, rank, i).size()));
      works.push_back(send(transport, peer, sent.back()));
      works.push_back(receive(transport, peer, received.back()));
    }
  }
  for (auto& work : works) work->wait(soon());
  std::size_t next = 0;
  for (int i = 0; i < messages; ++i) {
    for (Rank peer = 0; peer < ranks; ++peer) {
      if (peer == rank) continue;
      ASSERT_EQ(received[next++], content(peer, rank, i));
    }
  }
}

}  // namespace ringweave::comm
