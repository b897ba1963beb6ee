#include "ringweave/checkpoint/manifest.h"

#include "ringweave/base/error.h"

namespace ringweave::checkpoint {
namespace {

constexpr const char* kManifestFormat = "ringweave.manifest";
constexpr int kManifestVersion = 1;

std::string file_in(const std::string& folder, const std::string& name) {
  return folder + "/" + name;
}

}  // namespace

Json to_json(const Manifest& manifest) {
  Json files = Json::array();
  for (const auto& [name, sum] : manifest) {
    files.push_back(
        {{"name", name}, {"bytes", sum.bytes}, {"xxh128", sum.xxh128}});
  }
  return {{"format", kManifestFormat},
          {"version", kManifestVersion},
          {"files", files}};
}

Manifest manifest_from_json(const Json& json, const std::string& path) {
  JsonObject object(json, path);
  check_format(object, kManifestFormat, kManifestVersion);
  const Json& files = object.value("files");
  object.done();
  require(files.is_array(), "[{}.files] got {}; want a list", path,
          files.type_name());
  Manifest manifest;
  for (const Json& entry : files) {
    JsonObject file(entry, path + ".files");
    const std::string name = file.name("name");
    require(name.find('/') == std::string::npos,
            "[{}.files] got a name {}; want a file of this folder", path, name);
    const FileSum sum{file.integer("bytes", 0), file.string("xxh128")};
    file.done();
    require(manifest.emplace(name, sum).second,
            "[{}.files] got {} twice; want it once", path, name);
  }
  return manifest;
}

void write_manifest(const std::string& folder, const Manifest& manifest) {
  write_durable(file_in(folder, kManifestFile),
                to_json(manifest).dump(2) + "\n");
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = file_in(folder, kManifestFile);
  return manifest_from_json(read_json_file(path), path);
}

void check_file(const std::string& folder, const std::string& name,
                const FileSum& sum) {
  const std::string path = file_in(folder, name);
  const FileSum got = sum_of_file(path);
  require(got.bytes == sum.bytes, "[{}] got {} bytes; want {}, as {} says",
          path, got.bytes, sum.bytes, kManifestFile);
  require(
      got.xxh128 == sum.xxh128,
      "[{}] got bytes of hash {}; want {}, as {} says: the file was changed "
      "or is damaged",
      path, got.xxh128, sum.xxh128, kManifestFile);
}

void check_file(const std::string& folder, const std::string& name) {
  const Manifest manifest = read_manifest(folder);
  const auto sum = manifest.find(name);
  require(sum != manifest.end(), "[{}] got no {}; want a checkpoint",
          file_in(folder, kManifestFile), name);
  check_file(folder, name, sum->second);
}

}  // namespace ringweave::checkpoint
