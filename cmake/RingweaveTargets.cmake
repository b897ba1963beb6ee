# ringweave_layer(name [TORCH] [OBJECT] SOURCES ... [HOT ...] DEPS ...
#                 [LIBRARIES ...] [TESTS ...] [TEST_DEPS ...])
#
# A folder is a target is a namespace. Makes the static library
# ringweave_<name> and, from TESTS, the test program ringweave_<name>_test.
# DEPS are the layers that it may include, TEST_DEPS those that only its tests
# may (tools/check_layers holds the same lists against the #include lines);
# TORCH: needs libtorch. OBJECT: a library whose objects are all linked, for what
# layers below it call. HOT: more sources, which the preset dev optimises too.
function(ringweave_layer name)
  cmake_parse_arguments(arg "TORCH;OBJECT" ""
    "SOURCES;HOT;DEPS;LIBRARIES;TESTS;TEST_DEPS" ${ARGN})
  set(target ringweave_${name})
  if(arg_OBJECT)
    add_library(${target} OBJECT ${arg_SOURCES})
  else()
    add_library(${target} STATIC ${arg_SOURCES})
  endif()
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  list(TRANSFORM arg_DEPS PREPEND ringweave_ OUTPUT_VARIABLE layers)
  target_link_libraries(${target} PUBLIC ${layers} ${arg_LIBRARIES})
  if(arg_TORCH)
    target_link_libraries(${target} PUBLIC torch::torch)
  endif()
  if(arg_HOT)
    # Objects of their own, without the precompiled header, which is made with
    # another -O: g++ 12 does not refuse it, and crashes.
    add_library(${target}_hot OBJECT ${arg_HOT})
    target_compile_options(${target}_hot PRIVATE "$<$<CONFIG:Dev>:-O2>")
    target_link_libraries(${target}_hot PUBLIC ${layers} ${arg_LIBRARIES})
    target_include_directories(${target}_hot PUBLIC ${PROJECT_SOURCE_DIR})
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_hot>)
  endif()
  if(arg_TESTS)
    ringweave_test(${name} SOURCES ${arg_TESTS}
      DEPS ${name} ${arg_TEST_DEPS})
  endif()
  if(arg_TORCH)
    ringweave_torch_sources(${target})
    if(TARGET ${target}_test)
      ringweave_torch_sources(${target}_test)
    endif()
  else()
    target_precompile_headers(${target} REUSE_FROM ringweave_core_pch)
    if(TARGET ${target}_test)
      target_precompile_headers(${target}_test REUSE_FROM ringweave_core_test_pch)
    endif()
  endif()
endfunction()

# ringweave_pch(name HEADER LIBRARIES...)
# A target whose precompiled header others reuse.
function(ringweave_pch name header)
  file(WRITE ${PROJECT_BINARY_DIR}/pch/${name}.cpp "")
  add_library(${name} STATIC ${PROJECT_BINARY_DIR}/pch/${name}.cpp)
  target_link_libraries(${name} PUBLIC ${ARGN})
  target_precompile_headers(${name} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/${header})
endfunction()

# Compiles the sources of a target that needs torch faster: most of a unit's time
# is torch's templates.
function(ringweave_torch_sources target)
  target_precompile_headers(${target} REUSE_FROM ringweave_torch_pch)
endfunction()

# Tests of which the thread sanitizer has nothing to say: of one thread, or
# (planner) of threads that cli_plan starts as well.
set(RINGWEAVE_NO_TSAN
  topology schedule config planner parsers cli_simulate cli_simulate_schedules
  cli_topology cli_topology_show cli_topology_tables)

# Many ranks have a team of threads each, and operations are tiny: threads that
# spin while they wait for the next one would only take the cores from the others
# (attention's tests took nine times as much of them).
set(RINGWEAVE_TEST_ENVIRONMENT OMP_WAIT_POLICY=passive)

# Tests that take longest begin first in a new build folder, where ctest has not
# measured any, so that none runs alone at the end.
set(RINGWEAVE_LONG_TESTS
  train planner cli_papers cli_torchrun cli_resume cli_generate cli_weights
  multirank_fuzz multirank_groups)

# ringweave_test_properties(name VARIABLE=VALUE...)
function(ringweave_test_properties name)
  set(environment ${RINGWEAVE_TEST_ENVIRONMENT} ${ARGN})
  set_tests_properties(${name} PROPERTIES TIMEOUT 1500
    ENVIRONMENT "${environment}")
  if(name IN_LIST RINGWEAVE_LONG_TESTS)
    set_tests_properties(${name} PROPERTIES COST 100)
  endif()
endfunction()

# ringweave_test(name SOURCES ... DEPS layers...)
# The test program ringweave_<name>_test, run once by ctest; its count of
# tests goes to a JSON file that tools/test adds up.
function(ringweave_test name)
  if(RINGWEAVE_PACKAGE OR
      (RINGWEAVE_SANITIZE STREQUAL "thread" AND name IN_LIST RINGWEAVE_NO_TSAN))
    return()
  endif()
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  set(target ringweave_${name}_test)
  add_executable(${target} ${arg_SOURCES})
  list(TRANSFORM arg_DEPS PREPEND ringweave_ OUTPUT_VARIABLE layers)
  target_link_libraries(${target} PRIVATE ${layers} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${target}
    --gtest_output=json:${PROJECT_BINARY_DIR}/test-results/${name}.json
    --gtest_brief=1)
  ringweave_test_properties(${name})
endfunction()

# ringweave_test_on_device(name KIND FILTER)
# Tests of the same program again, on a kind of device. All of them run by hand:
# RINGWEAVE_TEST_DEVICE=KIND ringweave_<name>_test.
function(ringweave_test_on_device name kind filter)
  set(target ringweave_${name}_test)
  if(NOT TARGET ${target})
    return()
  endif()
  add_test(NAME ${name}_${kind} COMMAND ${target}
    --gtest_output=json:${PROJECT_BINARY_DIR}/test-results/${name}_${kind}.json
    --gtest_filter=${filter} --gtest_brief=1)
  ringweave_test_properties(${name}_${kind} RINGWEAVE_TEST_DEVICE=${kind})
endfunction()

# ringweave_python_test(name FILE [CORE])
# A file of Python unittests that run the built program, found by them in the
# environment; counted like the C++ tests. CORE: they need no command that needs
# libtorch, and run the program without it.
function(ringweave_python_test name file)
  if(RINGWEAVE_SANITIZE STREQUAL "thread" AND name IN_LIST RINGWEAVE_NO_TSAN)
    return()
  endif()
  if(TARGET ringweave_ops)
    set(interpreter ${RINGWEAVE_PYTHON})
    set(library $<TARGET_FILE:ringweave_ops>)
  else()
    find_package(Python3 REQUIRED COMPONENTS Interpreter)
    set(interpreter ${Python3_EXECUTABLE})
    set(library "")
  endif()
  set(program ringweave)
  if(ARGN STREQUAL CORE AND TARGET ringweave_core)
    set(program ringweave_core)
  endif()
  add_test(NAME ${name}
    COMMAND ${interpreter} ${PROJECT_SOURCE_DIR}/tests/run_unittest.py
      ${CMAKE_CURRENT_SOURCE_DIR}/${file}
      ${PROJECT_BINARY_DIR}/test-results/${name}.json)
  ringweave_test_properties(${name}
    RINGWEAVE_BINARY=$<TARGET_FILE:${program}> RINGWEAVE_LIBRARY=${library}
    PYTHONPATH=${PROJECT_SOURCE_DIR}/python)
endfunction()
