# Language level, warnings, sanitizers, linker and compiler cache.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
# The Python op library links the same static libraries. Set as an option, not
# by CMAKE_POSITION_INDEPENDENT_CODE, which compiles programs with -fPIE: the
# precompiled header serves both only if the flags are equal.
add_compile_options(-fPIC)

# "Dev": optimised, because parsing the headers takes most of the build time
# anyway, with assertions on and without the cost of debug information (of line
# tables alone: a seventh). Reports of sanitizers need line tables.
set(CMAKE_CXX_FLAGS_DEV "-O1")
if(RINGWEAVE_SANITIZE)
  string(APPEND CMAKE_CXX_FLAGS_DEV " -g1")
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

add_compile_options(-Wall -Wextra -Wpedantic -Wno-unused-parameter)
# A new kind of strategy must not be forgotten in a switch.
add_compile_options(-Werror=switch)
if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # It takes sources that are put together for headers.
  add_compile_options(-Wno-subobject-linkage)
endif()

if(RINGWEAVE_SANITIZE)
  add_compile_options(-fsanitize=${RINGWEAVE_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${RINGWEAVE_SANITIZE})
  if(RINGWEAVE_SANITIZE STREQUAL "thread")
    add_compile_options(-Wno-tsan)  # fences in torch's reference counts
  endif()
endif()

if(RINGWEAVE_FUZZ)
  # Counts which branches an input takes, in every library.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

find_program(MOLD mold)
if(MOLD)
  # Segments on pages of their own: mold before 2.4 else lets what is to become
  # read-only begin before its segment, by a few bytes. Where these lie on the page
  # before, by the chance of one build, the program does not load (mold issue 1151).
  add_link_options(-fuse-ld=mold -Wl,-z,separate-code)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # A precompiled header can only be cached with these relaxations.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${CCACHE})
endif()

find_package(Threads REQUIRED)
if(NOT RINGWEAVE_PACKAGE)
  find_package(GTest REQUIRED)
endif()
