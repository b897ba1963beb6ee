#include "ringweave/comm/questions.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "ringweave/base/error.h"

namespace ringweave::comm {
namespace {

class Round {
 public:
  Round(Communicator& communicator, Questions& questions, int ahead,
        const std::string& operation)
      : communicator_(communicator),
        questions_(questions),
        ahead_(ahead),
        operation_(operation),
        shifts_(static_cast<std::size_t>(communicator.size())) {}

  // The messages between two ranks match in the order of their posts, and both
  // ranks get to them in the order of this loop.
  void run() {
    const int last = communicator_.size() - 1;
    for (int s = 1; s <= std::min(ahead_, last); ++s) ask(s);
    questions_.own();
    for (int s = 1; s <= last; ++s) {
      answer(s);
      if (s + ahead_ <= last) ask(s + ahead_);
      if (s > 1) take(s - 1);
    }
    if (last > 0) take(last);
  }

 private:
  struct Shift {
    Buffer question, answer, taken;
    std::unique_ptr<Work> question_in, question_out, answer_in, answer_out;
  };

  Rank asked(int shift) const {
    return (communicator_.rank() + shift) % communicator_.size();
  }
  Rank asker(int shift) const {
    return (communicator_.rank() - shift + communicator_.size()) %
           communicator_.size();
  }
  /// Sizes, the asker first.
  std::size_t in(int shift) const {
    return questions_.question_bytes(asker(shift), communicator_.rank());
  }
  std::size_t out(int shift) const {
    return questions_.question_bytes(communicator_.rank(), asked(shift));
  }
  std::size_t answer_in(int shift) const {
    return out(shift) == 0
               ? 0
               : questions_.answer_bytes(communicator_.rank(), asked(shift));
  }
  std::size_t answer_out(int shift) const {
    return in(shift) == 0
               ? 0
               : questions_.answer_bytes(asker(shift), communicator_.rank());
  }

  /// Either may be empty, and then is not posted.
  void post(Receive receive, Send send, std::unique_ptr<Work>& received,
            std::unique_ptr<Work>& sent) {
    const std::size_t receives = receive.buffer.empty() ? 0 : 1;
    const std::size_t sends = send.buffer.empty() ? 0 : 1;
    Works works = communicator_.post(
        {.receives = {&receive, receives}, .sends = {&send, sends}});
    if (receives == 1) received = std::move(works.front());
    if (sends == 1) sent = std::move(works.back());
  }

  void wait(std::unique_ptr<Work>& work, int shift) {
    if (!work) return;
    communicator_.wait(*work, operation_, shift);
    work.reset();
  }

  void ask(int s) {
    Shift& shift = shifts_[static_cast<std::size_t>(s)];
    if (in(s) > 0) shift.question = allocate_buffer(in(s));
    Send send{.to = asked(s), .buffer = {}};
    if (out(s) > 0) {
      send.buffer = questions_.question(asked(s));
      ensure(send.buffer.size == out(s),
             "a question of {} bytes to rank {}, which waits for {}",
             send.buffer.size, asked(s), out(s));
    }
    post({asker(s), shift.question}, std::move(send), shift.question_in,
         shift.question_out);
  }

  void answer(int s) {
    Shift& shift = shifts_[static_cast<std::size_t>(s)];
    wait(shift.question_in, s);
    if (answer_out(s) > 0) shift.answer = allocate_buffer(answer_out(s));
    if (in(s) > 0) {
      questions_.answer(asker(s), shift.question, shift.answer);
    }
    shift.question = {};
    if (answer_in(s) > 0) shift.taken = allocate_buffer(answer_in(s));
    post({asked(s), shift.taken}, {asker(s), shift.answer}, shift.answer_in,
         shift.answer_out);
  }

  void take(int s) {
    Shift& shift = shifts_[static_cast<std::size_t>(s)];
    wait(shift.question_out, s);
    wait(shift.answer_in, s);
    if (!shift.taken.empty()) questions_.take(asked(s), shift.taken);
    wait(shift.answer_out, s);
    shift = {};
  }

  Communicator& communicator_;
  Questions& questions_;
  int ahead_;
  const std::string& operation_;
  std::vector<Shift> shifts_;
};

}  // namespace

void ask_all(Communicator& communicator, Questions& questions, int ahead,
             const std::string& operation) {
  ensure(ahead > 0, "{} questions under way", ahead);
  Round(communicator, questions, ahead, operation).run();
}

}  // namespace ringweave::comm
