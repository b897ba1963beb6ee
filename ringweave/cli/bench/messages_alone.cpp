#include "ringweave/cli/bench/messages_alone.h"

#include <fmt/format.h>

namespace ringweave::cli {
namespace {

struct Field {
  const char* name;
  std::optional<double> MessagesAlone::*seconds;
};

constexpr std::array<Field, 3> kFields = {
    {{"bare_seconds", &MessagesAlone::bare_seconds},
     {"bound_seconds", &MessagesAlone::bound_seconds},
     {"predicted_seconds", &MessagesAlone::predicted_seconds}}};

}  // namespace

void add_to(Json& json, const MessagesAlone& alone) {
  for (const Field& field : kFields) {
    const std::optional<double>& seconds = alone.*field.seconds;
    if (seconds) json[field.name] = *seconds;
  }
}

std::string heads(const MessagesAlone& alone,
                  const std::array<const char*, 3>& names, int width) {
  std::string text;
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    const std::optional<double>& seconds = alone.*kFields[i].seconds;
    if (seconds) text += fmt::format(" {:>{}}", names[i], width);
  }
  return text;
}

std::string cells(const MessagesAlone& alone, int width) {
  std::string text;
  for (const Field& field : kFields) {
    const std::optional<double>& seconds = alone.*field.seconds;
    if (seconds) text += fmt::format(" {:>{}.1f}", 1e3 * *seconds, width);
  }
  return text;
}

}  // namespace ringweave::cli
