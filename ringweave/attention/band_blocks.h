// Cuts a band into pieces for kernels that need a bias for it.
//
// A bias has a number for every row and key, so a band is cut into blocks of
// few rows. Keys that all rows of a block see need no bias and are split off.
// What is left repeats itself from block to block: few biases do.
#pragma once

#include <vector>

#include "ringweave/schedule/mask/area.h"

namespace ringweave::attention {

/// Full areas and narrow bands that hold each visible pair of a band once.
/// Areas of the same rows follow one another, the full area first. Rows and
/// keys are counted like the band's.
std::vector<schedule::Area> band_blocks(const schedule::Area& band);

/// Whether some row of a band may see no key.
bool may_have_blind_rows(const schedule::Area& band);

}  // namespace ringweave::attention
