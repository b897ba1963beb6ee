# libtorch as an imported target, taken from a Python's torch package.
#
# find_package(Torch) is avoided: it demands a CUDA toolkit when the package
# is a CUDA build, and adds foreign run paths.
file(STRINGS ${PROJECT_SOURCE_DIR}/python/ringweave/_library.py torch_line
  REGEX "^TORCH = ")
string(REGEX MATCHALL "[0-9]+\\.[0-9]+" torch_minors ${torch_line})
list(JOIN torch_minors ".x, " torch_wanted)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/python/ringweave/_library.py)

if(NOT RINGWEAVE_PYTHON)
  if(DEFINED Python_EXECUTABLE)
    set(RINGWEAVE_PYTHON ${Python_EXECUTABLE})  # which pip builds for
  elseif(DEFINED ENV{RINGWEAVE_PYTHON})
    set(RINGWEAVE_PYTHON $ENV{RINGWEAVE_PYTHON})
  else()
    set(RINGWEAVE_PYTHON ${PROJECT_SOURCE_DIR}/.venv/bin/python)
  endif()
endif()

execute_process(
  COMMAND ${RINGWEAVE_PYTHON} -c
    "import importlib.util as u, importlib.metadata as m; print(u.find_spec('torch').submodule_search_locations[0], m.version('torch'), sep=';')"
  OUTPUT_VARIABLE torch_found OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE torch_missing ERROR_QUIET)
if(torch_missing)
  message(FATAL_ERROR
    "no torch in ${RINGWEAVE_PYTHON}: run tools/setup, or set RINGWEAVE_PYTHON to a Python that has one of torch ${torch_wanted}.x, or use the preset core")
endif()
list(GET torch_found 0 TORCH_DIR)
list(GET torch_found 1 torch_version)
string(REGEX MATCH "^[0-9]+\\.[0-9]+" RINGWEAVE_TORCH_VERSION ${torch_version})
if(NOT RINGWEAVE_TORCH_VERSION IN_LIST torch_minors)
  message(FATAL_ERROR
    "got torch ${torch_version} in ${RINGWEAVE_PYTHON}; want one of ${torch_wanted}.x, whose C++ interfaces this builds against")
endif()
message(STATUS "torch ${torch_version} in ${TORCH_DIR}")
set(wheel_version ${PROJECT_VERSION}+torch${RINGWEAVE_TORCH_VERSION})
if(DEFINED SKBUILD_PROJECT_VERSION_FULL AND
    NOT SKBUILD_PROJECT_VERSION_FULL STREQUAL wheel_version)
  message(FATAL_ERROR
    "got version ${SKBUILD_PROJECT_VERSION_FULL} by pyproject.toml; want ${wheel_version}")
endif()

# torch's own OpenMP runtime: a second one beside it would start a second pool.
file(GLOB torch_gomp ${TORCH_DIR}/lib/libgomp*.so.1)

add_library(torch::torch INTERFACE IMPORTED)
target_include_directories(torch::torch SYSTEM INTERFACE
  ${TORCH_DIR}/include ${TORCH_DIR}/include/torch/csrc/api/include)
# torch's include folder holds an fmt of another version than the system's
# library, which is found first: use it without a library.
target_compile_definitions(torch::torch INTERFACE
  USE_DISTRIBUTED USE_C10D_GLOO FMT_HEADER_ONLY)
# Without it at::parallel_for is silently serial in our translation units.
target_compile_options(torch::torch INTERFACE -fopenmp)
target_link_libraries(torch::torch INTERFACE
  -Wl,--no-as-needed ${TORCH_DIR}/lib/libtorch.so ${TORCH_DIR}/lib/libtorch_cpu.so
  ${TORCH_DIR}/lib/libc10.so ${torch_gomp} -Wl,--as-needed)
