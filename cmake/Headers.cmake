# Libraries of nothing but headers, as targets: Debian's, or where these are absent
# those beside torch's own headers (fmt), or releases that are fetched by hash.
include(FetchContent)

set(RINGWEAVE_HEADERS_FROM "" CACHE STRING
  "Folder or address with the archives of headers; empty: where their projects have them")

# ringweave_headers(target HEADER FOLDER PACKAGE URL SHA256)
# Makes `target` of the folder that HEADER is in: FOLDER of the archive at URL, or
# where Debian's PACKAGE puts it.
function(ringweave_headers target header folder package url sha256)
  string(REGEX REPLACE ".*::" "" name ${target})
  string(TOLOWER ${name} name)  # as in the variables of FetchContent
  find_path(RINGWEAVE_HEADERS_OF_${name} ${header} PATHS ${TORCH_DIR}/include)
  set(found ${RINGWEAVE_HEADERS_OF_${name}})
  if(NOT found)
    if(RINGWEAVE_HEADERS_FROM)
      cmake_path(GET url FILENAME file)
      set(url ${RINGWEAVE_HEADERS_FROM}/${file})
    endif()
    message(STATUS "no <${header}>, which Debian's ${package} has: fetching ${url}")
    # SOURCE_SUBDIR does not exist: what is there to build is left out.
    FetchContent_Declare(headers_of_${name} URL ${url} URL_HASH SHA256=${sha256}
      SOURCE_SUBDIR none)
    FetchContent_MakeAvailable(headers_of_${name})
    set(found ${headers_of_${name}_SOURCE_DIR}/${folder})
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} SYSTEM INTERFACE ${found})
endfunction()

ringweave_headers(nlohmann_json::nlohmann_json nlohmann/json.hpp include
  nlohmann-json3-dev
  https://github.com/nlohmann/json/archive/refs/tags/v3.11.2.tar.gz
  d69f9deb6a75e2580465c6c4c5111b89c4dc2fa94e3a85fcd2ffcd9a143d9273)
ringweave_headers(CLI11::CLI11 CLI/CLI.hpp include libcli11-dev
  https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.1.2.tar.gz
  26291377e892ba0e5b4972cdfd4a2ab3bf53af8dac1f4ea8fe0d1376b625c8cb)
ringweave_headers(Boost::boost boost/graph/push_relabel_max_flow.hpp ""
  libboost-graph-dev
  https://archives.boost.io/release/1.74.0/source/boost_1_74_0.tar.bz2
  83bfc1507731a0906e387fc28b7ef5417d591429e51e788417fe9ff025e116b1)
ringweave_headers(xxhash::xxhash xxhash.h "" libxxhash-dev
  https://github.com/Cyan4973/xxHash/archive/refs/tags/v0.8.1.tar.gz
  3bb6b7d6f30c591dd65aaaff1c8b7a5b94d81687998ca9400082c739a690436c)
ringweave_headers(fmt::fmt fmt/format.h include libfmt-dev
  https://github.com/fmtlib/fmt/releases/download/9.1.0/fmt-9.1.0.zip
  cceb4cb9366e18a5742128cb3524ce5f50e88b476f1e54737a47ffdf4df4c996)
# The op library must load where there is no libfmt.
target_compile_definitions(fmt::fmt INTERFACE FMT_HEADER_ONLY)
