#include "ringweave/cli/override.h"

#include <algorithm>

#include "ringweave/base/error.h"

namespace ringweave::cli {

void apply_override(Json& config, const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  require(equals != std::string::npos && equals > 0,
          "[--set] got \"{}\"; want PATH=VALUE, such as model.hidden=256",
          assignment);
  const std::string path = assignment.substr(0, equals);
  const std::string text = assignment.substr(equals + 1);

  Json* at = &config;
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t dot = std::min(path.find('.', begin), path.size());
    const std::string key = path.substr(begin, dot - begin);
    require(!key.empty(),
            "[--set] got the path \"{}\"; want words with a dot "
            "between them",
            path);
    require(at->is_object(), "[--set] got {}; {} is no object", path,
            begin == 0 ? "the config" : path.substr(0, begin - 1));
    at = &(*at)[key];
    if (at->is_null() && dot < path.size()) *at = Json::object();
    begin = dot + 1;
  }
  *at = Json::accept(text) ? parse_json(text, "--set " + path) : Json(text);
}

Json read_json_file_with(const std::string& path,
                         const std::vector<std::string>& assignments) {
  Json json = read_json_file(path);
  for (const std::string& assignment : assignments) {
    apply_override(json, assignment);
  }
  return json;
}

}  // namespace ringweave::cli
