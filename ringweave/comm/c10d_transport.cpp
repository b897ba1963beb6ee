#include "ringweave/comm/c10d_transport.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/GroupRegistry.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "ringweave/base/error.h"
#include "ringweave/device/tensor_buffer.h"

namespace ringweave::comm {
namespace {

using namespace std::chrono_literals;
using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
using Store = c10::intrusive_ptr<c10d::Store>;

/// How long a store that may be dead is waited for, in all.
constexpr auto kStorePatience = 1500ms;
/// How long a rank that timed out waits for the others to say the same.
constexpr auto kSilencePatience = 300ms;
/// How long a rank whose connection broke waits for the mark of one that knows
/// why: a peer that timed out closes its connections before it leaves it.
constexpr auto kMarkPatience = 2 * kSilencePatience;
constexpr auto kPollInterval = 20ms;

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

/// What a rank that noticed a failure says.
struct Notice {
  std::int64_t place = 0;  ///< among all notices
  Rank peer = -1;          ///< whom it waited for
};

/// By rank; none: it noticed nothing.
using Notices = std::vector<std::optional<Notice>>;

/// Where the waits lead that begin with `rank`: whom the last one waits for who
/// noticed nothing, or nullopt if they go round in a circle.
std::optional<Rank> end_of_waits(const Notices& notices, Rank rank) {
  for (std::size_t i = 0; i < notices.size(); ++i) {
    if (!notices[rank]) return rank;
    rank = notices[rank]->peer;
  }
  return std::nullopt;
}

/// The waits that begin with `rank` go round in a circle, which links that work
/// don't make: whom the first one of the circle waited for.
Rank end_of_dead_link(const Notices& notices, Rank rank) {
  for (std::size_t i = 0; i < notices.size(); ++i) rank = notices[rank]->peer;
  Notice first = *notices[rank];
  for (Rank next = first.peer; next != rank; next = notices[next]->peer) {
    if (notices[next]->place < first.place) first = *notices[next];
  }
  return first.peer;
}

/// What ranks of a group that fails tell each other, in the group's store: the
/// mark of the first failed rank, and of each rank that noticed a failure that
/// it did, so that it is not the first itself, and whom it waited for.
///
/// A store whose host is stopped blocks its callers for good, whatever its
/// time-out says. So each call runs in a thread that is left behind when it
/// doesn't end, and once that happened no further call is made.
class Failures {
 public:
  Failures(const Group& group, const std::string& name,
           std::optional<Rank> store_host)
      : prefix_("ringweave/" + name + "/"),
        rank_(group->getRank()),
        size_(group->getSize()),
        store_(group->getStore()),
        store_host_(store_host) {}

  void mark(Rank rank) {
    if (!known_) known_ = rank;
    bounded([store = store_, key = mark_key(), rank] {
      store->compareSet(key, "", std::to_string(rank));
      return std::optional<Rank>();
    });
  }

  /// The rank in the mark. Without a store: what this rank itself has left.
  std::optional<Rank> marked() {
    const std::optional<Rank> found = bounded(
        [store = store_, key = mark_key()] { return read_mark(*store, key); });
    return found ? found : known_;
  }

  /// Called where this rank waited for `peer` in vain. The one rank that
  /// noticed nothing has failed. Where ranks wait for one another, a link is
  /// dead: one of its ends. nullopt if neither is seen.
  std::optional<Rank> after_silence(Rank peer) {
    return find_failed(peer, false, kSilencePatience);
  }

  /// Called where the connection to `peer` broke. It has failed, unless it
  /// ended because it noticed a failure itself.
  std::optional<Rank> after_break(Rank peer) {
    return find_failed(peer, true, kMarkPatience);
  }

 private:
  using Call = std::function<std::optional<Rank>()>;

  std::optional<Rank> find_failed(Rank peer, bool broken,
                                  std::chrono::milliseconds patience) {
    if (std::exchange(noticed_, true)) return marked();
    const auto found =
        bounded([store = store_, mark = mark_key(), keys = noticed_keys(),
                 places = prefix_ + "notices", mine = rank_, peer, broken,
                 end = Clock::now() + patience]() -> std::optional<Rank> {
          store->set(keys[mine],
                     fmt::format("{} {}", store->add(places, 1), peer));
          while (Clock::now() < end) {
            if (const auto failed = read_mark(*store, mark)) return failed;
            std::this_thread::sleep_for(kPollInterval);
          }
          const Notices notices = read_notices(*store, keys);
          if (broken && !notices[peer]) return peer;
          const auto last = end_of_waits(notices, mine);
          if (!last) return end_of_dead_link(notices, mine);
          const auto unaware = std::ranges::count_if(
              notices, [](const auto& notice) { return !notice; });
          return unaware == 1 ? last : std::nullopt;
        });
    if (found) mark(*found);
    // The store is gone with its host. A rank that comes late finds it gone
    // too, because the host left; so only the host's own connection tells.
    if (broken && !store_ && !known_ && peer == store_host_) known_ = peer;
    return found ? found : known_;
  }

  std::string mark_key() const { return prefix_ + "first_failed"; }
  std::vector<std::string> noticed_keys() const {
    std::vector<std::string> keys;
    for (Rank rank = 0; rank < size_; ++rank) {
      keys.push_back(fmt::format("{}noticed/{}", prefix_, rank));
    }
    return keys;
  }
  static std::optional<Rank> read_mark(c10d::Store& store,
                                       const std::string& key) {
    // get() would wait for the key for long.
    if (!store.check({key})) return std::nullopt;
    return std::stoi(store.get_to_str(key));
  }

  static Notices read_notices(c10d::Store& store,
                              const std::vector<std::string>& keys) {
    Notices notices;
    for (const std::string& key : keys) {
      notices.emplace_back();
      if (!store.check({key})) continue;
      const std::string text = store.get_to_str(key);
      notices.back() = {.place = std::stoll(text),
                        .peer = std::stoi(text.substr(text.find(' ')))};
    }
    return notices;
  }

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
      // Its host is stopped, or the way there is dead.
      if (!known_) known_ = store_host_;
    } catch (const std::exception&) {  // a broken store is done without
    }
    store_ = {};
    return std::nullopt;
  }

  std::string prefix_;
  Rank rank_;
  int size_;
  Store store_;  ///< null: there is none, or it did not answer
  std::optional<Rank> store_host_;  ///< whose process has the store, if known
  std::optional<Rank> known_;
  bool noticed_ = false;  ///< find_failed() was called
};

class C10dWork final : public Work {
 public:
  /// `failure`: why nothing was posted; thrown by wait(), like later errors.
  C10dWork(std::shared_ptr<Failures> failures, Rank rank, Rank peer, bool sends,
           c10::intrusive_ptr<c10d::Work> work, std::string failure)
      : failures_(std::move(failures)),
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
    std::optional<Rank> first;
    if (Clock::now() >= deadline) {
      facts.cause = no_answer_since(start);
      first = failures_->after_silence(peer_);
    } else {
      first = failures_->after_break(peer_);
    }
    facts.first_failed = first.value_or(-1);
    return CommError(std::move(facts));
  }

  const std::shared_ptr<Failures> failures_;
  const c10::intrusive_ptr<c10d::Work> work_;
  std::string failure_;
  const Rank rank_;
  const Rank peer_;
  const bool sends_;
};

class C10dTransport final : public Transport {
 public:
  C10dTransport(Group group, const std::string& mark, int tag,
                std::optional<Rank> store_host)
      : group_(std::move(group)),
        failures_(std::make_shared<Failures>(group_, mark, store_host)),
        rank_(group_->getRank()),
        size_(group_->getSize()),
        tag_(tag) {}

  Rank rank() const override { return rank_; }
  int size() const override { return size_; }

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

  void mark_failed(Rank rank) override { failures_->mark(rank); }
  std::optional<Rank> first_failed() override { return failures_->marked(); }
  /// The connections close with the last holder of the group.
  void ended() override { group_.reset(); }

 private:
  std::unique_ptr<Work> start(Rank peer, bool sends, const Buffer& buffer) {
    c10::intrusive_ptr<c10d::Work> work;
    std::string failure;
    try {
      if (!group_) throw Error("this rank has left the group");
      message_[0] = tensor_of(buffer);
      work = sends ? group_->send(message_, peer, tag_)
                   : group_->recv(message_, peer, tag_);
    } catch (const std::exception& error) {
      failure = text_of(error);
    }
    message_[0].reset();
    return std::make_unique<C10dWork>(failures_, rank(), peer, sends,
                                      std::move(work), std::move(failure));
  }

  Group group_;  ///< null: this rank has left it
  const std::shared_ptr<Failures> failures_;
  const Rank rank_;
  const int size_;
  const int tag_;
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
  return c10d_transport(find_group(group_name), group_name);
}

std::shared_ptr<Transport> c10d_transport(Group group, const std::string& mark,
                                          int tag,
                                          std::optional<Rank> store_host) {
  return std::make_shared<C10dTransport>(std::move(group), mark, tag,
                                         store_host);
}

Engine c10d_engine(const std::string& group_name,
                   std::optional<Rank> store_host) {
  return group_name.empty() ? Engine()
                            : Engine(c10d_transport(find_group(group_name),
                                                    group_name, 0, store_host));
}

}  // namespace ringweave::comm
