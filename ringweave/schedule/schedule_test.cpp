#include "ringweave/schedule/schedule.h"

#include <algorithm>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ringweave/base/error.h"
#include "ringweave/schedule/proof/validate.h"
#include "ringweave/schedule/test_cases.h"

namespace ringweave::schedule {
namespace {

using ::testing::HasSubstr;

Schedule example(Pass pass) {
  const Layout layout = Layout::zigzag(29, 3);
  return whole(strategy_from_name("multi_ring"),
               AttentionDemand(layout, layout, Mask::causal()), pass);
}

// Two parts of one strand of rank 1's block, of 3 and 5 units, and one of 2.
Schedule small() {
  Schedule schedule;
  schedule.ranks = 2;
  schedule.pass = Pass::backward;
  schedule.steps = 2;
  schedule.blocks = {{{1, 0, 0}, 3}, {{1, 0, 2}, 5}, {{1, 1, 0}, 2}};
  using enum Payload;
  schedule.transfers = {{1, 0, {1, 0, 2}, kv, Action::copy, 0, 1, kOwn, 4},
                        {1, 0, {1, 1, 0}, kv, Action::copy, 0, 1, kOwn, 6},
                        {0, 1, {1, 1, 0}, kv_grad, Action::add, 1, 2, 3, 0}};
  schedule.tiles = {{0, 1, {1, 1, 0}, 6, 3}};
  schedule.retained = {{0, {1, 0, 0}, 7}};
  return schedule;
}

TEST(Schedule, KnowsSizesAndOffsets) {
  const Schedule schedule = small();
  EXPECT_EQ(block_size(schedule, {1, 0, 2}), 5);
  EXPECT_EQ(block_size(schedule, {1, 0, 1}), 0);
  EXPECT_EQ(block_size(schedule, {5, 0, 0}), 0);
  EXPECT_EQ(part_offset(schedule, {1, 0, 0}), 0);
  EXPECT_EQ(part_offset(schedule, {1, 0, 2}), 3);
  EXPECT_EQ(part_offset(schedule, {1, 1, 0}), 0);
}

TEST(Schedule, CountsTrafficPerLinkAndPayload) {
  const LinkTraffic want = {{{0, 1}, {{Payload::kv_grad, 2}}},
                            {{1, 0}, {{Payload::kv, 7}}}};
  EXPECT_EQ(link_traffic(small()), want);
}

TEST(Schedule, SlotsAreAsLargeAsWhatLiesInThem) {
  using Sizes = std::map<int, std::int64_t>;
  const Schedule schedule = small();
  // The part in slot 4 keeps the place of the part before it.
  EXPECT_EQ(slot_sizes(schedule, 0, Payload::kv), (Sizes{{4, 8}, {6, 2}}));
  EXPECT_EQ(retained_size(schedule, 0), 3);
  EXPECT_EQ(slot_sizes(schedule, 0, Payload::kv_grad), (Sizes{{3, 2}}));
  EXPECT_EQ(slot_sizes(schedule, 1, Payload::kv_grad), (Sizes{{0, 2}}));
  EXPECT_EQ(slot_sizes(schedule, 1, Payload::kv), Sizes{});
  EXPECT_EQ(
      buffer_bytes(schedule, 0, {{Payload::kv, 10}, {Payload::kv_grad, 100}}),
      330);
}

TEST(ScheduleJson, RoundTrip) {
  for (const Pass pass : {Pass::forward, Pass::backward}) {
    const Schedule schedule = example(pass);
    const Json json = parse_json(to_json(schedule).dump(), "dump");
    EXPECT_EQ(schedule_from_json(json, "schedule"), schedule);
  }
  const Schedule forward = example(Pass::forward);
  // In another order it is the same schedule.
  Json json = to_json(forward);
  for (const char* list : {"blocks", "transfers", "tiles", "retained"}) {
    std::reverse(json[list].begin(), json[list].end());
  }
  EXPECT_EQ(schedule_from_json(json, "schedule"), forward);
}

TEST(ScheduleJson, UsesTheFieldsOfTheType) {
  const Json json = to_json(small());
  EXPECT_EQ(json["format"], "ringweave.schedule");
  EXPECT_EQ(json["version"], 1);
  EXPECT_EQ(json["pass"], "backward");
  EXPECT_EQ(json["blocks"][1].dump(), R"({"block":[1,0,2],"size":5})");
  EXPECT_EQ(json["transfers"][2].dump(),
            R"({"from":0,"to":1,"block":[1,1,0],"payload":"kv_grad",)"
            R"("action":"add","post_step":1,"wait_step":2,"source_slot":3,)"
            R"("slot":0})");
  EXPECT_EQ(json["tiles"][0].dump(),
            R"({"rank":0,"step":1,"block":[1,1,0],"slot":6,"grad_slot":3})");
  EXPECT_EQ(json["retained"][0].dump(),
            R"({"rank":0,"block":[1,0,0],"slot":7})");
}

void expect_error(const std::function<void(Json&)>& spoil,
                  std::initializer_list<const char*> texts) {
  Json json = to_json(example(Pass::forward));
  spoil(json);
  std::string what = "no error";
  try {
    schedule_from_json(json, "file.json");
  } catch (const InvalidArgument& error) {
    what = error.what();
  }
  for (const char* text : texts) EXPECT_THAT(what, HasSubstr(text));
}

TEST(ScheduleJson, ErrorsNameTheField) {
  expect_error([](Json& json) { json = 3; }, {"file.json"});
  expect_error([](Json& json) { json["format"] = "ringweave.plan"; },
               {"file.json", "ringweave.schedule"});
  expect_error([](Json& json) { json["ranks"] = 0; }, {"file.json.ranks"});
  expect_error([](Json& json) { json["pass"] = "sideways"; },
               {"file.json.pass", "sideways", "backward"});
  expect_error([](Json& json) { json.erase("tiles"); }, {"file.json", "tiles"});
  expect_error([](Json& json) { json["tiles"] = 4; },
               {"file.json.tiles", "want a list"});
  expect_error([](Json& json) { json["tyles"] = 4; }, {"tyles"});
  expect_error([](Json& json) { json["transfers"][3]["from"] = -1; },
               {"file.json.transfers[3].from", "-1"});
  expect_error([](Json& json) { json["transfers"][3]["slot"] = -1; },
               {"file.json.transfers[3].slot", "-1"});
  expect_error([](Json& json) { json["transfers"][3]["source_slot"] = -2; },
               {"file.json.transfers[3].source_slot", "-2"});
  expect_error([](Json& json) { json["transfers"][0]["to"] = 1LL << 40; },
               {"file.json.transfers[0].to", "1099511627776"});
  expect_error(
      [](Json& json) {
        json["transfers"][0]["block"] = {1, 2};
      },
      {"file.json.transfers[0].block", "got 2 numbers; want 3"});
  expect_error(
      [](Json& json) {
        json["tiles"][0]["block"] = {1, -2, 0};
      },
      {"file.json.tiles[0].block", "-2"});
  expect_error(
      [](Json& json) {
        json["blocks"][0]["block"] = {1, 2147483647, 0};
      },
      {"file.json.blocks[0].block", "got strand 2147483647; want 0 … 4095"});
  expect_error([](Json& json) { json["blocks"][0]["size"] = 0; },
               {"file.json.blocks[0].size"});
  expect_error([](Json& json) { json["retained"][0].erase("slot"); },
               {"file.json.retained[0]", "slot"});
}

}  // namespace
}  // namespace ringweave::schedule
