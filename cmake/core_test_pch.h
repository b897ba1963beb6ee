// What their tests include beside that.
#include "core_pch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
