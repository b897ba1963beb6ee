// The files of a folder with their sizes and hashes, as a file of that folder.
#pragma once

#include <map>
#include <string>

#include "ringweave/base/json.h"
#include "ringweave/checkpoint/durable_file.h"

namespace ringweave::checkpoint {

/// Name of a file within the folder → what it holds.
using Manifest = std::map<std::string, FileSum>;

/// The manifest's own file.
inline constexpr const char* kManifestFile = "manifest.json";

Json to_json(const Manifest& manifest);
/// Throws InvalidArgument, which names `path`, for what it can't be.
Manifest manifest_from_json(const Json& json, const std::string& path);

/// Writes `folder`/manifest.json, which is on disk when this returns. Throws
/// Error.
void write_manifest(const std::string& folder, const Manifest& manifest);

/// Throws InvalidArgument, which names the file, if it can't be read.
Manifest read_manifest(const std::string& folder);

/// Throws InvalidArgument, which names the file, unless `folder` holds a file
/// of that name with that sum. Reads the whole file.
void check_file(const std::string& folder, const std::string& name,
                const FileSum& sum);

/// With the sum in the manifest of `folder`, which must have the file.
void check_file(const std::string& folder, const std::string& name);

}  // namespace ringweave::checkpoint
