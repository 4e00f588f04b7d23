#include "core/base/nearest_name.h"

#include <gtest/gtest.h>

#include <vector>

namespace vl2 {
namespace {

TEST(NearestName, IsTheOneThatWasMeant) {
  const std::vector<std::string> known = {"batch_size", "betas", "steps", "seed"};
  EXPECT_EQ(nearest_name("bacth_size", known), "batch_size");
  EXPECT_EQ(nearest_name("step", known), "steps");
  EXPECT_EQ(nearest_name("seeed", known), "seed");
  EXPECT_EQ(nearest_name("optimizer", known), "");
  EXPECT_EQ(nearest_name(std::string(100000, 'x'), known), "");
}

}  // namespace
}  // namespace vl2
