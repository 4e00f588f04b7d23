#include "engine/runtime/vision_stage.h"

#include <gtest/gtest.h>

namespace vl2 {
namespace {

TEST(VisionStage, BesideAnswersItTakesAsManyTilesAsNobodyNoticesAndOneAtLeast) {
  EXPECT_EQ(tiles_beside_answers(0), 1) << "not known yet";
  EXPECT_EQ(tiles_beside_answers(1e-12), DeepseekVl2::kTilesAtOnce);
  EXPECT_EQ(tiles_beside_answers(3), DeepseekVl2::kTilesAtOnce);
  EXPECT_EQ(tiles_beside_answers(20), 2);
  EXPECT_EQ(tiles_beside_answers(800), 1);
  EXPECT_EQ(tiles_beside_answers(1e12), 1);
}

}  // namespace
}  // namespace vl2
