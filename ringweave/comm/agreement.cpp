#include "ringweave/comm/agreement.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "ringweave/base/hash.h"
#include "ringweave/base/json.h"

namespace ringweave::comm {
namespace {

/// Of the texts that follow a difference, as CBOR.
constexpr std::size_t kTextBytes = 8192;
/// Of one fact's text, and of a refusal's reason; a call has some twenty facts.
constexpr std::size_t kFactBytes = 160;
constexpr std::size_t kReasonBytes = 2000;
/// Calls that `first_use` leaves uncompared: no rank is so far behind in a pass
/// that waits for its neighbours, so that comparing doesn't wait.
constexpr std::size_t kLag = 8;
/// Digests that are remembered; masks of packed documents never come again.
constexpr std::size_t kRemembered = 4096;

// Facts of every call.
constexpr const char* kOperation = "operation";
constexpr const char* kRefused = "refused";
constexpr const char* kCall = "call";

/// At most `bytes` of the text, whole characters of UTF-8.
std::string_view head(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80)
    --bytes;
  return text.substr(0, bytes);
}

std::uint64_t digest(const Facts& facts) {
  std::uint64_t state = fnv1a("");
  for (const auto& [name, text] : facts) {
    for (const std::string_view part :
         {std::string_view(name), std::string_view(text)}) {
      // With its end, lest "ab" "c" equal "a" "bc".
      state = fnv1a({"\0", 1}, fnv1a(part, state));
    }
  }
  return state;
}

const std::string* find(const Facts& facts, const std::string& name) {
  for (const auto& fact : facts) {
    if (fact.first == name) return &fact.second;
  }
  return nullptr;
}

std::string describe(const Facts& facts, const std::string& name) {
  const std::string* text = find(facts, name);
  return text ? '"' + *text + '"' : "none";
}

std::vector<std::string> mode_names() { return {"every", "first_use", "off"}; }

std::string call_text(const std::string& operation, std::int64_t number) {
  return fmt::format("{}, call {}", operation, number);
}

}  // namespace

std::optional<std::string> first_difference(const std::vector<Facts>& ranks) {
  for (const Facts& from : ranks) {
    for (const auto& fact : from) {
      const std::string wanted = describe(ranks[0], fact.first);
      std::vector<Rank> different;
      for (Rank rank = 0; rank < std::ssize(ranks); ++rank) {
        if (describe(ranks[rank], fact.first) != wanted) {
          different.push_back(rank);
        }
      }
      if (different.empty()) continue;
      return fmt::format(
          "got {} {} on rank {}; want {} as on rank 0 (ranks that differ from "
          "rank 0: {})",
          fact.first, describe(ranks[different[0]], fact.first), different[0],
          wanted, fmt::join(different, ", "));
    }
  }
  return std::nullopt;
}

std::string abridged(std::string_view text) {
  if (text.size() <= kFactBytes) return std::string(text);
  return fmt::format("{}… ({} bytes, hash {:016x})",
                     head(text, kFactBytes - 60), text.size(), fnv1a(text));
}

AgreementMode agreement_mode_from_name(const std::string& name) {
  return static_cast<AgreementMode>(place_of(name, mode_names(), "agree"));
}

std::string name(AgreementMode mode) {
  return mode_names()[static_cast<std::size_t>(mode)];
}

struct Agreement::Record {
  std::int64_t number = 0;
  std::int64_t forward = 0;
  std::uint64_t digest = 0;
  std::int64_t refused = 0;

  friend bool operator==(const Record&, const Record&) = default;
};

struct Agreement::Call {
  std::string operation;
  Facts facts;
  Record mine;
  Buffer records;  ///< by rank; this rank's own is sent
  Works works = {};
};

Agreement::Agreement(std::shared_ptr<Transport> control,
                     std::chrono::milliseconds time_out, AgreementMode mode)
    : control_(std::move(control)), time_out_(time_out), mode_(mode) {}

Agreement::~Agreement() = default;

std::int64_t Agreement::agree(const std::string& operation, Facts facts,
                              std::int64_t forward) {
  if (mode_ == AgreementMode::off || alone()) return ++calls_;
  post(operation, std::move(facts), forward, false);
  const bool later = mode_ == AgreementMode::first_use &&
                     agreed_.contains(posted_.back().mine.digest);
  compare_posted(later ? kLag : 0);
  return calls_;
}

void Agreement::refuse(const std::string& operation,
                       const std::string& reason) {
  if (mode_ == AgreementMode::off || alone()) {
    ++calls_;
    return;
  }
  const std::string line = reason.substr(0, reason.find('\n'));
  post(operation, {{kRefused, std::string(head(line, kReasonBytes))}}, 0, true);
  // With first_use the others may be waiting for data: no texts would come.
  if (mode_ == AgreementMode::every) compare_posted(0);
}

void Agreement::set_mode(AgreementMode mode) {
  if (!alone()) {
    post("set_agreement", {{"mode", name(mode)}}, 0, false);
    compare_posted(0);
  }
  mode_ = mode;
}

void Agreement::post(const std::string& operation, Facts facts,
                     std::int64_t forward, bool refused) {
  facts.insert(facts.begin(), {kOperation, operation});
  Call call{.operation = operation,
            .facts = std::move(facts),
            .mine = {.number = ++calls_,
                     .forward = forward,
                     .digest = 0,
                     .refused = refused},
            .records = allocate_buffer(control_->size() * sizeof(Record))};
  call.mine.digest = digest(call.facts);
  std::memcpy(call.records.data + control_->rank() * sizeof(Record), &call.mine,
              sizeof(Record));
  call.works = to_all(call.records, sizeof(Record));
  posted_.push_back(std::move(call));
}

Works Agreement::to_all(const Buffer& all, std::size_t bytes) {
  std::vector<Receive> receives;
  std::vector<Send> sends;
  const auto part = [&](Rank rank) { return all.slice(rank * bytes, bytes); };
  for (Rank peer = 0; peer < control_->size(); ++peer) {
    if (peer == control_->rank()) continue;
    receives.push_back({peer, part(peer)});
    sends.push_back({peer, part(control_->rank())});
  }
  return control_->post({receives, sends}, {});
}

void Agreement::wait(Works& works, const Call& call) {
  const auto start = Clock::now();
  const auto end = start + time_out_;
  std::vector<Rank> silent;
  std::optional<CommError::Facts> first;
  for (std::size_t i = 0; i < works.size(); ++i) {
    try {
      works[i]->wait(end);
    } catch (const CommError& error) {
      // Receives come first: those that are still to come after the time-out
      // are of ranks that didn't make the call.
      if (i < works.size() / 2) silent.push_back(error.facts().peer);
      if (!first) first = error.facts();
    }
  }
  if (!first) return;
  first->operation = call_text(call.operation, call.mine.number);
  if (Clock::now() >= end && !silent.empty()) {
    first->peer = silent.size() == 1 ? silent[0] : -1;
    first->cause =
        fmt::format("no such call of rank{} {} within {:.3g} s",
                    silent.size() == 1 ? "" : "s", fmt::join(silent, ", "),
                    std::chrono::duration<double>(time_out_).count());
    control_->mark_failed(silent[0]);
  }
  first->first_failed = control_->first_failed().value_or(-1);
  throw CommError(std::move(*first));
}

void Agreement::compare_posted(std::size_t lag) {
  while (posted_.size() > lag) {
    Call call = std::move(posted_.front());
    posted_.pop_front();
    compare(call);
  }
}

void Agreement::compare(Call& call) {
  wait(call.works, call);
  std::vector<Record> records(control_->size());
  std::memcpy(records.data(), call.records.data,
              records.size() * sizeof(Record));
  const bool equal = std::ranges::all_of(
      records, [&](const Record& record) { return record == call.mine; });
  if (!equal) raise(exchange_texts(call));
  if (call.mine.refused) return;
  if (agreed_.size() == kRemembered) agreed_.clear();
  agreed_.insert(call.mine.digest);
}

std::vector<Facts> Agreement::exchange_texts(const Call& call) {
  Facts facts = call.facts;
  for (auto& fact : facts) {
    if (fact.first != kRefused) fact.second = abridged(fact.second);
  }
  facts.emplace_back(kCall, fmt::format("{}", call.mine.number));
  facts.emplace_back("call of its forward",
                     fmt::format("{}", call.mine.forward));
  std::vector<std::uint8_t> mine = Json::to_cbor(Json(facts));
  ensure(mine.size() <= kTextBytes, "facts of {} bytes", mine.size());
  const Buffer texts = allocate_buffer(control_->size() * kTextBytes);
  std::memset(texts.data, 0, texts.size);
  std::ranges::copy(std::as_bytes(std::span(mine)),
                    texts.data + control_->rank() * kTextBytes);
  Works works = to_all(texts, kTextBytes);
  wait(works, call);
  std::vector<Facts> all;
  for (Rank rank = 0; rank < control_->size(); ++rank) {
    const auto* data =
        reinterpret_cast<const std::uint8_t*>(texts.data + rank * kTextBytes);
    all.push_back(Json::from_cbor(data, data + kTextBytes, /*strict=*/false)
                      .get<Facts>());
  }
  return all;
}

void Agreement::raise(const std::vector<Facts>& all) {
  std::vector<Rank> refused;
  for (Rank rank = 0; rank < std::ssize(all); ++rank) {
    if (find(all[rank], kRefused)) refused.push_back(rank);
  }
  const auto where = [&](Rank rank) {
    return fmt::format("[{}, call {}]", *find(all[rank], kOperation),
                       *find(all[rank], kCall));
  };
  if (!refused.empty()) {
    throw Disagreement(fmt::format(
        "{} refused on rank {}: {}{}", where(refused[0]), refused[0],
        *find(all[refused[0]], kRefused),
        refused.size() == 1 ? ""
                            : fmt::format(" (ranks that refused: {})",
                                          fmt::join(refused, ", "))));
  }
  const auto difference = first_difference(all);
  ensure(difference.has_value(), "calls of different records have equal facts");
  throw Disagreement(fmt::format("{} {}", where(0), *difference));
}

}  // namespace ringweave::comm
