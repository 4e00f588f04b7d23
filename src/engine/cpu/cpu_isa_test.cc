#include "engine/cpu/cpu_isa.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/error.h"
#include "engine/cpu/cpu_ops.h"

namespace vl2 {
namespace {

// Sets VL2_CPU_ISA for one test.
class CpuIsa : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* value = std::getenv("VL2_CPU_ISA")) before_ = value;
  }
  void TearDown() override {
    if (before_.empty()) {
      ::unsetenv("VL2_CPU_ISA");
    } else {
      force(before_);
    }
  }
  static void force(std::string_view isa) { ::setenv("VL2_CPU_ISA", std::string(isa).c_str(), 1); }

 private:
  std::string before_;
};

TEST_F(CpuIsa, TheForcedKernelsAreTheOnesThatRun) {
  for (Isa isa : available_isas()) {
    force(isa_name(isa));
    const std::string expected = fmt::format("cpu, {} kernels, float32 arithmetic, 2 threads", isa_name(isa));
    EXPECT_EQ(make_cpu_ops({.threads = 2, .compute = Compute::kF32, .isa = {}})->description(), expected);
    EXPECT_NE(cpu_description().find(fmt::format("kernels    {} ", isa_name(isa))), std::string::npos);
  }
}

TEST_F(CpuIsa, WhoNamesTheKernelsIsNotAskedForTheEnvironment) {
  force("sse9");
  EXPECT_NE(make_cpu_ops({.threads = 1, .compute = Compute::kF32, .isa = Isa::kScalar})->description().find("scalar"),
            std::string::npos);
}

TEST_F(CpuIsa, TheBestIsChosenWhenNoneIsForced) {
  ::unsetenv("VL2_CPU_ISA");
  EXPECT_EQ(choose_isa(), detect_isa());
  force("");
  EXPECT_EQ(choose_isa(), detect_isa());
  EXPECT_EQ(available_isas().front(), Isa::kScalar);
  EXPECT_EQ(available_isas().back(), detect_isa());
}

TEST_F(CpuIsa, UnknownNamesAndMissingHardwareAreRefused) {
  force("sse9");
  try {
    choose_isa();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("VL2_CPU_ISA=sse9"), std::string::npos) << e.what();
  }
  if (detect_isa() == Isa::kAmx) return;  // this machine lacks nothing
  EXPECT_THROW(require_isa(Isa::kAmx), Error);
  EXPECT_THROW(make_cpu_ops({.threads = 1, .compute = Compute::kF32, .isa = Isa::kAmx}), Error);
  force("amx");
  try {
    choose_isa();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
  }
}

TEST(CpuIsaNames, AreReadAsTheyAreWritten) {
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAmx})
    EXPECT_EQ(parse_isa(isa_name(isa)), isa);
  EXPECT_EQ(parse_isa("AVX2"), std::nullopt);
}

}  // namespace
}  // namespace vl2
