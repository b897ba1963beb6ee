// The rates of classes of links, which the tables of nvidia-smi and rocm-smi
// don't tell.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

namespace ringweave::discovery {

/// Class → bytes per second of one direction.
using ClassRates = std::map<std::string, double>;

/// `defaults`, with `rates` in place of theirs and beside them. Throws
/// InvalidArgument, with `where` in front, for a rate out of range, or of a
/// class that is neither among the defaults nor one that `also` knows; `wanted`
/// lists these.
ClassRates with_defaults(const ClassRates& rates, ClassRates defaults,
                         const std::function<bool(const std::string&)>& also,
                         const std::string& wanted, const std::string& where);

/// Throws InvalidArgument for a rate that no link got: its class is not in
/// `used`.
void check_used(const ClassRates& rates, const std::set<std::string>& used,
                const std::string& where);

}  // namespace ringweave::discovery
