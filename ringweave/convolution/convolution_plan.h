// Which tokens a short convolution needs of other ranks, and where they go.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "ringweave/base/range.h"
#include "ringweave/convolution/convolution.h"

namespace ringweave::convolution {

/// Consecutive tokens of one rank and one document, and the rows of the rank's
/// table that hold the inputs before them, at most width - 1.
struct Piece {
  Range tokens;  ///< among the rank's tokens
  Range halo;    ///< empty at the start of a document
};

/// Row to[i] of one tensor is row from[i] of another. int64.
struct RowCopy {
  at::Tensor from;
  at::Tensor to;
};

/// How a rank's table comes about: the halos of its pieces one after the other,
/// then, for a final state, its width - 1 rows. A row that nothing is copied to
/// is 0.
struct TablePlan {
  struct Sent {
    Rank to = 0;
    at::Tensor tokens;  ///< of this rank, ascending in position, each once
  };
  struct Received {
    Rank from = 0;
    std::int64_t tokens = 0;  ///< in the message
    RowCopy rows;             ///< from the message to the table
  };

  std::int64_t rows = 0;
  RowCopy initial;                 ///< from the initial state
  RowCopy own;                     ///< from the rank's own tokens
  std::vector<Sent> sends;         ///< by rank
  std::vector<Received> receives;  ///< by rank
};

/// One rank's part.
struct ConvolutionPlan {
  ConvolutionSpec spec;
  Rank rank;
  std::vector<Piece> pieces;  ///< in position order
  TablePlan halos;
  TablePlan halos_and_end;  ///< with the rows of a final state
  comm::Facts facts;        ///< that the plans of all ranks have in common

  int ranks() const { return spec.layout.ranks(); }
  /// Tokens before a segment that it needs.
  std::int64_t reach() const { return spec.width - 1; }
  const TablePlan& table(bool final_state) const {
    return final_state ? halos_and_end : halos;
  }
};

}  // namespace ringweave::convolution
