#include "ringweave/comm/communicator.h"

#include <algorithm>
#include <optional>

#include "ringweave/base/error.h"
#include "ringweave/base/json.h"
#include "ringweave/base/range.h"
#include "ringweave/comm/bucket_sum.h"

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

}  // namespace

std::int64_t Traffic::bytes() const {
  std::int64_t total = 0;
  for (const auto& [rank, link] : sent) total += link.bytes;
  return total;
}

double Traffic::waiting_seconds() const {
  double total = 0;
  for (const auto& [operation, seconds] : waited_seconds) total += seconds;
  return total;
}

double Traffic::waiting_seconds(std::string_view operation) const {
  const auto found = waited_seconds.find(operation);
  return found == waited_seconds.end() ? 0 : found->second;
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

Works Communicator::post(const Batch& batch, const Stream& stream) {
  if (batch.size() == 0) return {};
  check_batch(batch, rank(), size());
  Works works = transport_->post(batch, stream);
  for (const Send& send : batch.sends) {
    Traffic::Sent& link = traffic_.sent[send.to];
    ++link.messages;
    link.bytes += static_cast<std::int64_t>(send.buffer.size);
  }
  return works;
}

std::unique_ptr<Work> Communicator::send(Rank to, Buffer buffer) {
  const Send one{.to = to, .buffer = std::move(buffer)};
  return std::move(post({.receives = {}, .sends = {&one, 1}}).front());
}

std::unique_ptr<Work> Communicator::receive(Rank from, Buffer buffer) {
  const Receive one{.from = from, .buffer = std::move(buffer)};
  return std::move(post({.receives = {&one, 1}, .sends = {}}).front());
}

void Communicator::wait(Work& work, const std::string& operation, int step) {
  count_wait([&] { work.wait(step_deadline()); }, operation, step);
}

void Communicator::block(Work& work, const Stream& stream,
                         const std::string& operation, int step) {
  count_wait([&] { work.block(stream, step_deadline()); }, operation, step);
}

Buffer Communicator::scratch(std::size_t bytes, const Stream& stream) {
  const auto& [accelerator, index] = stream.device;
  return scratch_[{accelerator, index}].get(bytes, stream);
}

template <typename Wait>
void Communicator::count_wait(const Wait& wait, const std::string& operation,
                              int step) {
  const auto start = Clock::now();
  const auto count_time = [&] {
    const std::chrono::duration<double> waited = Clock::now() - start;
    traffic_.waited_seconds[operation] += waited.count();
  };
  try {
    wait();
    count_time();
  } catch (const CommError& error) {
    count_time();
    CommError::Facts facts = error.facts();
    facts.operation = operation + ": " + facts.operation;
    facts.step = step;
    if (facts.first_failed < 0) {
      facts.first_failed = transport_->first_failed().value_or(-1);
    }
    // Somebody timed out on this rank, which waited for another: not known.
    // The transport's numbering may be that of a larger group (subgroup.h).
    if (facts.first_failed == facts.rank) facts.first_failed = -1;
    throw CommError(std::move(facts));
  }
}

void Communicator::exchange(std::vector<Receive> receives,
                            std::vector<Send> sends, Clock::time_point deadline,
                            const std::string& operation) {
  const auto is_empty = [](const auto& message) {
    return message.buffer.empty();
  };
  std::erase_if(receives, is_empty);
  std::erase_if(sends, is_empty);
  for (const auto& work : post({receives, sends})) {
    count_wait([&] { work->wait(deadline); }, operation, -1);
  }
}

std::vector<std::vector<std::byte>> Communicator::gather(
    std::span<const std::byte> bytes, Clock::time_point deadline,
    const std::string& operation) {
  const std::vector<std::byte> length = encode_length(bytes.size());
  std::vector<std::vector<std::byte>> all(size(),
                                          std::vector<std::byte>(kLengthBytes));
  const auto to_all = [&](std::span<const std::byte> mine) {
    std::vector<Receive> receives;
    std::vector<Send> sends;
    for (Rank peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      receives.push_back({peer, borrowed(std::span(all[peer]))});
      sends.push_back({peer, borrowed(mine)});
    }
    exchange(std::move(receives), std::move(sends), deadline, operation);
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
std::span<T> Communicator::piece(std::span<T> values, Rank owner) const {
  const Range range =
      cut({0, static_cast<std::int64_t>(values.size())}, owner, size());
  return values.subspan(range.begin, range.size());
}

template <typename T>
void Communicator::gather_pieces(std::span<T> values) {
  std::vector<Receive> receives;
  std::vector<Send> sends;
  for (Rank peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    receives.push_back({peer, borrowed(piece(values, peer))});
    sends.push_back({peer, borrowed(piece(values, rank()))});
  }
  exchange(std::move(receives), std::move(sends), step_deadline(),
           "all-gather: pieces");
}

void Communicator::all_gather_pieces(std::span<double> values) {
  gather_pieces(values);
}
void Communicator::all_gather_pieces(std::span<float> values) {
  gather_pieces(values);
}

template <typename T>
void Communicator::all_reduce(std::span<T> values) {
  BucketSum sum(values, {{0, static_cast<std::int64_t>(values.size())}},
                BucketSum::Result::everywhere, *this);
  sum.post(0);
  sum.finish();
}

void Communicator::all_reduce_sum(std::span<double> values) {
  all_reduce(values);
}
void Communicator::all_reduce_sum(std::span<float> values) {
  all_reduce(values);
}

void Communicator::broadcast(const Buffer& buffer, Rank root,
                             const std::string& operation) {
  std::vector<Receive> receives;
  std::vector<Send> sends;
  if (rank() != root) {
    receives.push_back({root, buffer});
  } else {
    for (Rank peer = 0; peer < size(); ++peer) {
      if (peer != root) sends.push_back({.to = peer, .buffer = buffer});
    }
  }
  exchange(std::move(receives), std::move(sends), step_deadline(), operation);
}

void Communicator::barrier() { barrier(step_deadline()); }

void Communicator::barrier(Clock::time_point deadline) {
  const std::byte mine{};
  std::vector<std::byte> theirs(size());
  std::vector<Receive> receives;
  std::vector<Send> sends;
  for (Rank peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    receives.push_back({peer, borrowed(std::span(theirs).subspan(peer, 1))});
    sends.push_back({peer, borrowed(std::span(&mine, 1))});
  }
  exchange(std::move(receives), std::move(sends), deadline, "barrier");
}

void Communicator::check_agreement(
    const std::map<std::string, std::string>& facts) {
  const auto deadline = Clock::now() + time_outs_.start;
  const std::vector<std::uint8_t> mine =
      Json::to_cbor(Json(Facts(facts.begin(), facts.end())));
  std::vector<Facts> all;
  for (const auto& bytes :
       gather(std::as_bytes(std::span(mine)), deadline, "agreement")) {
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    all.push_back(Json::from_cbor(data, data + bytes.size()).get<Facts>());
  }
  const auto difference = first_difference(all);
  if (!difference) return;
  // A rank that fails makes the waits of the others fail: none may do so
  // before all have what they need to tell what differs.
  try {
    barrier(deadline);
  } catch (const CommError&) {  // a peer was through the barrier earlier
  }
  throw InvalidArgument("[agreement] " + *difference);
}

void Communicator::refuse(const std::string& operation,
                          const std::string& reason) {
  if (!agreement_) return;
  check_usable(operation);
  or_fail([&] { agreement_->refuse(operation, reason); });
  if (agreement_->mode() == AgreementMode::first_use && size() > 1) {
    fail(reason);
  }
}

void Communicator::set_agreement_mode(AgreementMode mode) {
  if (!agreement_) return;
  check_usable("set_agreement");
  or_fail([&] { agreement_->set_mode(mode); });
}

void Communicator::leave(const std::string& why) {
  if (!left_.empty()) return;
  left_ = why.substr(0, why.find('\n'));
  transport_->ended();
  agreement_->end();
}

void Communicator::fail(const std::string& why) {
  if (left_.empty()) transport_->mark_failed(rank());
  leave(why);
}

void Communicator::check_usable(const std::string& operation) const {
  if (left_.empty()) return;
  throw CommError(
      {.rank = rank(),
       .operation = operation,
       .cause = fmt::format("this group can't be used any more; want "
                            "a new one ({})",
                            left_)});
}

}  // namespace ringweave::comm
