#include "engine/backends.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace vl2 {
namespace {

TEST(Backends, EveryListedBackendCanBeMadeAndHasAFootprint) {
  for (const std::string_view name : backend_names()) {
    EXPECT_EQ(make_ops(name, {})->name(), name);
    EXPECT_GT(backend_footprint(name, {}).matrix, 0);
    EXPECT_GT(backend_footprint(name, {}).cache, 0);
  }
}

TEST(Backends, TheCacheOfAGpuIsCountedAsItIsMade) {
  EXPECT_EQ(backend_footprint("cuda", {}).cache, 2);
  EXPECT_EQ(backend_footprint("cuda", {.cache = CacheType::kF32}).cache, 4);
  EXPECT_EQ(backend_footprint("cuda", {.compute = Compute::kF32}).cache, 4);
  EXPECT_EQ(backend_footprint("cuda", {.compute = Compute::kF32, .cache = CacheType::kBF16}).cache, 2);
}

TEST(Backends, ACacheInCodesIsTheProcessorsOnly) {
  const BackendOptions options{.cache = CacheType::kInt8};
  EXPECT_EQ(make_ops("cpu", options)->name(), "cpu");
  EXPECT_EQ(backend_footprint("cpu", options).cache, 33.0 / 32);
  for (const char* name : {"cuda", "reference"}) {
    try {
      make_ops(name, options);
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << name << ": " << error.what();
    }
  }
}

TEST(Backends, AutoIsTheFirstOne) {
  ASSERT_FALSE(backend_names().empty());
  EXPECT_EQ(make_ops("auto", {})->name(), backend_names().front());
}

TEST(Backends, AnUnknownNameIsRefusedWithTheKnownOnes) {
  try {
    make_ops("abacus", {});
    FAIL() << "an unknown backend was made";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("reference"), std::string::npos) << error.what();
  }
  EXPECT_THROW(backend_footprint("abacus", {}), Error);
}

TEST(Backends, ImpossibleOptionsAreRefused) {
  EXPECT_THROW(make_ops("auto", {.threads = -1}), Error);
  EXPECT_THROW(make_ops("reference", {.compute = Compute::kBF16}), Error);
}

TEST(Backends, TheProcessorReportNamesKernelsThisMachineHas) {
  const ProcessorReport report = processor_report();
  EXPECT_EQ(report.detected.front(), "scalar");
  EXPECT_EQ(std::count(report.detected.begin(), report.detected.end(), report.kernels), 1) << report.kernels;
  EXPECT_GE(report.threads, 1);
  EXPECT_NE(report.text.find(report.processor), std::string::npos) << report.text;
}

}  // namespace
}  // namespace vl2
