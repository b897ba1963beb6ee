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
  using Post = std::function<c10::intrusive_ptr<c10d::Work>()>;

  /// Posts at once; an error of that is thrown by wait(), like any other.
  C10dWork(std::shared_ptr<Mark> mark, CommError::Facts facts, const Post& post)
      : mark_(std::move(mark)), facts_(std::move(facts)) {
    try {
      work_ = post();
    } catch (const std::exception& error) {
      facts_.cause = text_of(error);
    }
  }

  void wait(Clock::time_point deadline) override {
    const auto start = Clock::now();
    if (facts_.cause.empty()) {
      // 0 would mean the group's own time-out.
      const auto left = std::max(
          std::chrono::ceil<std::chrono::milliseconds>(deadline - start), 1ms);
      try {
        if (work_->wait(left)) return;
        facts_.cause = "aborted";
      } catch (const std::exception& error) {
        facts_.cause = text_of(error);
      }
    }
    const auto now = Clock::now();
    if (now >= deadline) {
      const std::chrono::duration<double> waited = now - start;
      facts_.cause = fmt::format("no answer within {:.3g} s", waited.count());
    } else {
      facts_.first_failed = mark_->read(kMarkPatience).value_or(-1);
    }
    throw CommError(facts_);
  }

 private:
  std::shared_ptr<Mark> mark_;
  CommError::Facts facts_;
  c10::intrusive_ptr<c10d::Work> work_;
};

class C10dTransport final : public Transport {
 public:
  C10dTransport(Group group, const std::string& group_name)
      : group_(std::move(group)),
        device_(device_of(*group_)),
        mark_(std::make_shared<Mark>(group_, group_name)) {}

  Rank rank() const override { return group_->getRank(); }
  int size() const override { return group_->getSize(); }

  std::unique_ptr<Work> send(Rank to,
                             std::span<const std::byte> bytes) override {
    return std::make_unique<C10dWork>(mark_, facts(to, "send"), [&, this, to] {
      std::vector<at::Tensor> message{tensor(bytes.data(), bytes.size())};
      return group_->send(message, to, kTag);
    });
  }

  std::unique_ptr<Work> receive(Rank from,
                                std::span<std::byte> bytes) override {
    return std::make_unique<C10dWork>(
        mark_, facts(from, "receive"), [&, this, from] {
          std::vector<at::Tensor> message{tensor(bytes.data(), bytes.size())};
          return group_->recv(message, from, kTag);
        });
  }

  void mark_failed(Rank rank) override { mark_->leave(rank); }
  std::optional<Rank> first_failed() override { return mark_->read(); }

 private:
  static constexpr int kTag = 0;

  static at::Device device_of(const c10d::ProcessGroup& group) {
    const std::vector<at::Device> devices = group.getDeviceTypes();
    const bool has_cpu =
        std::ranges::find(devices, at::Device(at::kCPU)) != devices.end();
    if (has_cpu || devices.empty()) return at::kCPU;
    return group.getBoundDeviceId().value_or(devices.front());
  }

  CommError::Facts facts(Rank peer, const char* operation) const {
    return {.rank = rank(), .peer = peer, .operation = operation, .cause = {}};
  }

  at::Tensor tensor(const std::byte* data, std::size_t size) const {
    return at::from_blob(const_cast<std::byte*>(data),
                         {static_cast<std::int64_t>(size)},
                         at::TensorOptions(at::kByte).device(device_));
  }

  Group group_;
  at::Device device_;
  std::shared_ptr<Mark> mark_;
};

}  // namespace

std::shared_ptr<Transport> c10d_transport(const std::string& group_name) {
  Group group;
  try {
    group = c10d::resolve_process_group(group_name);
  } catch (const std::exception& error) {
    throw InvalidArgument(fmt::format("[c10d] got process group \"{}\": {}",
                                      group_name, text_of(error)));
  }
  return std::make_shared<C10dTransport>(std::move(group), group_name);
}

}  // namespace ringweave::comm
