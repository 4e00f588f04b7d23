// nano answers as the official implementation does, on the reference backend: naive loops, so in four parts.
#include "runtime/nano_goldens.h"

namespace vl2 {
namespace {

class NanoOnReference : public testing::TestWithParam<size_t> {};

TEST_P(NanoOnReference, AnswersAreTheOfficialOnes) {
  const auto engine = Engine::open(nano_folder(), {.backend = "reference"});
  const std::vector<NanoGolden> goldens = nano_goldens();
  for (size_t i = GetParam(); i < goldens.size(); i += 4)
    expect_golden_answer(goldens[i], engine->submit(nano_request(goldens[i], *engine))->answer());
}

INSTANTIATE_TEST_SUITE_P(Quarters, NanoOnReference, testing::Range(size_t{0}, size_t{4}));

}  // namespace
}  // namespace vl2
