#include "ringweave/topology/classify.h"

#include <gtest/gtest.h>
TEST(Classify, Placeholder) {}
