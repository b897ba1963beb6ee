#include "ringweave/comm/c10d_transport.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "ringweave/base/error.h"
#include "ringweave/comm/tensor_buffer.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
using Store = c10::intrusive_ptr<c10d::Store>;

/// How long a store that may be dead is waited for, in all.
constexpr auto kStorePatience = 1500ms;
/// How long a rank whose connection broke waits for the mark of the one that
/// knows why: a peer that timed out closes its connections before it leaves it.
constexpr auto kMarkPatience = 300ms;

/// What an exception says first, without torch's call stack, without Gloo's
/// "[source file:line] " before it and its guesses at reasons after it.
std::string text_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text =
      torch_error ? torch_error->what_without_backtrace() : error.what();
  text.resize(std::min({text.size(), text.find('\n'), text.find(". ")}));
  if (text.starts_with('[')) {
    const auto end = text.find("] ");
    if (end != std::string::npos) text.erase(0, end + 2);
  }
  return text;
}

/// The mark of the first failed rank: a key of the group's store.
///
/// A store whose host is stopped blocks its callers for good, whatever its
/// time-out says. So each call runs in a thread that is left behind when it
/// doesn't end, and once that happened no further call is made.
class Mark {
 public:
  Mark(const Group& group, const std::string& group_name)
      : key_("ringweave/" + group_name + "/first_failed"),
        store_(group->getStore()) {}

  void leave(Rank rank) {
    if (!known_) known_ = rank;
    bounded([store = store_, key = key_, rank] {
      store->compareSet(key, "", std::to_string(rank));
      return std::optional<Rank>();
    });
  }

  /// Waits up to `patience` for one to be left. Without a store: what this rank
  /// itself has left.
  std::optional<Rank> read(std::chrono::milliseconds patience = 0ms) {
    const std::optional<Rank> found =
        bounded([store = store_, key = key_,
                 end = Clock::now() + patience]() -> std::optional<Rank> {
          while (
              !store->check({key})) {  // get() would wait for the key for long
            if (Clock::now() >= end) return std::nullopt;
            std::this_thread::sleep_for(20ms);
          }
          return std::stoi(store->get_to_str(key));
        });
    return found ? found : known_;
  }

 private:
  using Call = std::function<std::optional<Rank>()>;

  /// nullopt as well if the store fails or does not answer. Never throws.
  std::optional<Rank> bounded(Call call) {
    if (!store_) return std::nullopt;
    try {
      std::packaged_task<std::optional<Rank>()> task(std::move(call));
      auto result = task.get_future();
      std::thread(std::move(task)).detach();
      if (result.wait_for(kStorePatience) == std::future_status::ready) {
        return result.get();
      }
    } catch (const std::exception&) {  // a broken store is done without
    }
    store_ = {};
    return std::nullopt;
  }

  std::string key_;
  Store store_;  ///< null: there is none, or it did not answer
  std::optional<Rank> known_;
};

class C10dWork final : public Work {
 public:
  /// `failure`: why nothing was posted; thrown by wait(), like later errors.
  C10dWork(std::shared_ptr<Mark> mark, Rank rank, Rank peer, bool sends,
           c10::intrusive_ptr<c10d::Work> work, std::string failure)
      : mark_(std::move(mark)),
        work_(std::move(work)),
        failure_(std::move(failure)),
        rank_(rank),
        peer_(peer),
        sends_(sends) {}

  void wait(Clock::time_point deadline) override {
    const auto start = Clock::now();
    if (failure_.empty()) {
      // 0 would mean the group's own time-out.
      const auto left = std::max(
          std::chrono::ceil<std::chrono::milliseconds>(deadline - start), 1ms);
      try {
        if (work_->wait(left)) return;
        failure_ = "aborted";
      } catch (const std::exception& error) {
        failure_ = text_of(error);
      }
    }
    throw error(start, deadline);
  }

 private:
  CommError error(Clock::time_point start, Clock::time_point deadline) {
    CommError::Facts facts{.rank = rank_,
                           .peer = peer_,
                           .operation = sends_ ? "send" : "receive",
                           .cause = failure_};
    if (Clock::now() >= deadline) {
      facts.cause = no_answer_since(start);
    } else {
      facts.first_failed = mark_->read(kMarkPatience).value_or(-1);
    }
    return CommError(std::move(facts));
  }

  const std::shared_ptr<Mark> mark_;
  const c10::intrusive_ptr<c10d::Work> work_;
  std::string failure_;
  const Rank rank_;
  const Rank peer_;
  const bool sends_;
};

class C10dTransport final : public Transport {
 public:
  C10dTransport(Group group, const std::string& group_name)
      : group_(std::move(group)),
        mark_(std::make_shared<Mark>(group_, group_name)) {}

  Rank rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }

  /// One by one: a group's startCoalescing(), which would make them one, throws
  /// for Gloo (torch 2.13).
  Works post(const Batch& batch, const Stream&) override {
    Works works;
    works.reserve(batch.size());
    for (const auto& [from, buffer] : batch.receives) {
      works.push_back(start(from, false, buffer));
    }
    for (const auto& [to, buffer, forwards] : batch.sends) {
      works.push_back(start(to, true, buffer));
    }
    return works;
  }

  void mark_failed(Rank rank) override { mark_->leave(rank); }
  std::optional<Rank> first_failed() override { return mark_->read(); }

 private:
  static constexpr int kTag = 0;

  std::unique_ptr<Work> start(Rank peer, bool sends, const Buffer& buffer) {
    c10::intrusive_ptr<c10d::Work> work;
    std::string failure;
    try {
      message_[0] = tensor_of(buffer);
      work = sends ? group_->send(message_, peer, kTag)
                   : group_->recv(message_, peer, kTag);
    } catch (const std::exception& error) {
      failure = text_of(error);
    }
    message_[0].reset();
    return std::make_unique<C10dWork>(mark_, rank(), peer, sends,
                                      std::move(work), std::move(failure));
  }

  const Group group_;
  const std::shared_ptr<Mark> mark_;
  std::vector<at::Tensor> message_{1};  ///< what c10d takes: a list of one
};

Group find_group(const std::string& name) {
  try {
    return c10d::resolve_process_group(name);
  } catch (const std::exception& error) {
    throw InvalidArgument(
        fmt::format("[c10d] got process group \"{}\"; want one that is "
                    "registered: {}",
                    name, text_of(error)));
  }
}

}  // namespace

std::shared_ptr<Transport> c10d_transport(const std::string& group_name) {
  return std::make_shared<C10dTransport>(find_group(group_name), group_name);
}

Communicator c10d_communicator(const std::string& group_name) {
  const Group group = find_group(group_name);
  TimeOuts time_outs;
  // Some back ends have no options, torch's "fake" one for instance.
  if (const auto options = group->getBackend(at::kCPU)->getBackendOptions()) {
    time_outs = {.start = options->timeout, .step = options->timeout};
  }
  return Communicator(std::make_shared<C10dTransport>(group, group_name),
                      time_outs);
}

Engine c10d_engine(const std::string& group_name) {
  return group_name.empty() ? Engine() : Engine(c10d_transport(group_name));
}

}  // namespace ringweave::comm
