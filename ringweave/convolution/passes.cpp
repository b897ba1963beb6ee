#include "ringweave/convolution/passes.h"

#include <utility>
#include <vector>

#include <ATen/ATen.h>

#include "ringweave/convolution/kernel.h"
#include "ringweave/device/tensor_buffer.h"
#include "ringweave/tensor/scalar_type.h"

namespace ringweave::convolution {
namespace {

/// Rows that travel: (batch, rows, channels), contiguous.
struct Message {
  Rank peer;
  at::Tensor rows;
};

/// The messages of one pass, posted together.
class Messages {
 public:
  Messages(std::vector<Message> sent, std::vector<Message> received,
           comm::Communicator& communicator, const char* operation)
      : sent_(std::move(sent)),
        received_(std::move(received)),
        communicator_(communicator),
        operation_(operation) {
    std::vector<comm::Receive> receives;
    std::vector<comm::Send> sends;
    for (const auto& [peer, rows] : received_) {
      receives.push_back({peer, device::buffer_of(rows)});
    }
    for (const auto& [peer, rows] : sent_) {
      sends.push_back({peer, device::buffer_of(rows)});
    }
    works_ = communicator.post({.receives = receives, .sends = sends});
  }

  /// Those received, in the order given.
  const std::vector<Message>& wait() {
    for (const auto& work : works_) communicator_.wait(*work, operation_);
    return received_;
  }

 private:
  std::vector<Message> sent_, received_;
  comm::Communicator& communicator_;
  const char* operation_;
  comm::Works works_;
};

at::Tensor like(const at::Tensor& x, std::int64_t rows, at::ScalarType type) {
  return at::empty({x.size(0), rows, x.size(2)}, x.options().dtype(type));
}

void copy_rows(const at::Tensor& from, const RowCopy& rows,
               const at::Tensor& to) {
  to.index_copy_(1, rows.to, from.index_select(1, rows.from));
}

/// The transpose of copy_rows().
void add_back(const at::Tensor& dto, const RowCopy& rows,
              const at::Tensor& dfrom) {
  dfrom.index_add_(1, rows.from, dto.index_select(1, rows.to));
}

Operands operands(const ConvolutionInputs& in, const at::Tensor& table) {
  return {in.x.contiguous(), table, in.weight.t().contiguous(),
          in.bias.defined() ? in.bias.contiguous() : at::Tensor()};
}

/// The rows of a table behind those of halos.
at::Tensor end_of(const at::Tensor& table, const ConvolutionPlan& plan) {
  return table.narrow(1, table.size(1) - plan.reach(), plan.reach());
}

}  // namespace

ConvolutionForward run_forward(const ConvolutionInputs& in, bool final_state,
                               const ConvolutionPlan& plan,
                               comm::Communicator& communicator) {
  const TablePlan& table = plan.table(final_state);
  const at::ScalarType type = in.x.scalar_type();
  ConvolutionForward result;
  result.table = like(in.x, table.rows, type).zero_();
  result.out = like(in.x, in.x.size(1), type);
  const Operands own = operands(in, result.table);
  std::vector<Message> sent, received;
  for (const auto& [to, tokens] : table.sends) {
    sent.push_back({to, own.x.index_select(1, tokens)});
  }
  for (const auto& [from, tokens, rows] : table.receives) {
    received.push_back({from, like(in.x, tokens, type)});
  }
  Messages messages(std::move(sent), std::move(received), communicator,
                    kForwardPass);
  convolve(own, plan.pieces, Part::rest, result.out);
  copy_rows(own.x, table.own, result.table);
  if (in.initial_state.defined()) {
    copy_rows(in.initial_state, table.initial, result.table);
  }
  const std::vector<Message>& arrived = messages.wait();
  for (std::size_t i = 0; i < arrived.size(); ++i) {
    copy_rows(arrived[i].rows, table.receives[i].rows, result.table);
  }
  convolve(own, plan.pieces, Part::first, result.out);
  if (final_state) {
    result.final_state =
        end_of(result.table, plan).clone(at::MemoryFormat::Contiguous);
  }
  return result;
}

ConvolutionGradients run_backward(const ConvolutionInputs& in,
                                  const at::Tensor& table_rows,
                                  const at::Tensor& dout,
                                  const at::Tensor& dfinal,
                                  const WantedGradients& wanted,
                                  const ConvolutionPlan& plan,
                                  comm::Communicator& communicator) {
  const TablePlan& table = plan.table(dfinal.defined());
  const at::ScalarType type = tensor::accumulate_type(in.x.scalar_type());
  const Operands own =
      operands(in, table_rows.narrow(1, 0, table.rows).contiguous());
  const at::Tensor douts = dout.contiguous();
  const at::Tensor dtable = like(in.x, table.rows, type);
  halo_gradients(douts, own.taps, plan.pieces, dtable);
  if (dfinal.defined()) end_of(dtable, plan).copy_(dfinal);
  // What forward received goes back, and the other way round.
  std::vector<Message> sent, received;
  for (const auto& [from, tokens, rows] : table.receives) {
    const at::Tensor message = like(in.x, tokens, type).zero_();
    add_back(dtable, rows, message);
    sent.push_back({from, message});
  }
  for (const auto& [to, tokens] : table.sends) {
    received.push_back({to, like(in.x, tokens.size(0), type)});
  }
  Messages messages(std::move(sent), std::move(received), communicator,
                    kBackwardPass);
  const at::Tensor dx = like(in.x, in.x.size(1), type);
  token_gradients(douts, own.taps, plan.pieces, dx);
  add_back(dtable, table.own, dx);
  ConvolutionGradients result;
  if (wanted.weight || wanted.bias) {
    const WeightGradients sums = weight_gradients(douts, own, plan.pieces);
    if (wanted.weight) result.weight = sums.taps.t().contiguous();
    if (wanted.bias) result.bias = sums.bias;
  }
  if (wanted.initial_state) {
    const at::Tensor dinitial = like(in.x, plan.reach(), type).zero_();
    add_back(dtable, table.initial, dinitial);
    result.initial_state = dinitial.to(in.x.scalar_type());
  }
  const std::vector<Message>& arrived = messages.wait();
  for (std::size_t i = 0; i < arrived.size(); ++i) {
    dx.index_add_(1, table.sends[i].tokens, arrived[i].rows);
  }
  result.x = dx.to(in.x.scalar_type());
  return result;
}

}  // namespace ringweave::convolution
