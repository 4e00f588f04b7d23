#include "train/checkpoint/run_lock.h"

#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"
#include "core/base/temp_folder.h"

namespace vl2::train {
namespace {

TEST(RunLock, HoldsOffASecondWriterUntilItIsGone) {
  const TempFolder temp;
  {
    const RunLock first(temp.path());
    try {
      const RunLock second(temp.path());
      ADD_FAILURE() << "two writers";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find("another run is writing"), std::string::npos) << error.what();
    }
  }
  const RunLock later(temp.path());
}

TEST(RunLock, AFolderThatIsNotThereIsAnError) {
  const TempFolder temp;
  EXPECT_THROW(RunLock(temp / "nowhere"), Error);
}

}  // namespace
}  // namespace vl2::train
