#include "ringweave/comm/transport.h"

#include "ringweave/base/error.h"

namespace ringweave::comm {

void check_batch(const Batch& batch, Rank rank, int size) {
  const auto check_one = [&](Rank from, Rank to, const Buffer& buffer) {
    ensure(from >= 0 && from < size && to >= 0 && to < size && from != to,
           "a message from rank {} to rank {} of {}", from, to, size);
    ensure(!buffer.empty(), "an empty message from rank {} to rank {}", from,
           to);
  };
  for (const Receive& receive : batch.receives) {
    check_one(receive.from, rank, receive.buffer);
  }
  for (const Send& send : batch.sends) check_one(rank, send.to, send.buffer);
}

std::string no_answer_since(Clock::time_point start) {
  const std::chrono::duration<double> waited = Clock::now() - start;
  return fmt::format("no answer within {:.3g} s", waited.count());
}

}  // namespace ringweave::comm
