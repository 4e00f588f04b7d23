#include "engine/cpu/cpu_limits.h"

#include <gtest/gtest.h>

namespace vl2 {
namespace {

TEST(CpuLimits, EveryInstructionSetNamesAndMeasuresItsUnits) {
  for (Isa isa : available_isas()) {
    const auto meter = make_cpu_limit_meter({.threads = 2, .compute = Compute::kF32, .isa = isa});
    const MachineLimits limits = meter->measure();
    EXPECT_GT(limits.read_gbps, 0.1);
    for (const PanelFormat format : {PanelFormat::kBf16, PanelFormat::kQ8, PanelFormat::kQ4})
      ASSERT_TRUE(limits.tflops.contains(meter->unit(format))) << meter->unit(format);
    for (const auto& [unit, tflops] : limits.tflops) {
      EXPECT_GT(tflops, 0.0001) << unit;
      EXPECT_LT(tflops, 1000) << unit;
    }
    EXPECT_EQ(limits.tflops.size(), isa >= Isa::kAvx512Bf16 ? 3u : 2u);
    EXPECT_TRUE(meter->unit(PanelFormat::kQ8).ends_with("_int8"));
    EXPECT_EQ(meter->unit(PanelFormat::kQ4), meter->unit(PanelFormat::kQ8));
    EXPECT_TRUE(meter->unit(PanelFormat::kBf16).ends_with("_f32"));
  }
}

}  // namespace
}  // namespace vl2
