// What their tests include beside that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core_pch.h"
