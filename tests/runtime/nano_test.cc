// nano from its folder: the official prompts, and a few of the official answers. nano_slow_test.cc asks everything.
#include "runtime/nano_goldens.h"

namespace vl2 {
namespace {

TEST(Nano, PromptsAreTheOfficialOnes) {
  const auto engine = Engine::open(nano_folder());
  for (const NanoGolden& golden : nano_goldens())
    EXPECT_EQ(nano_request(golden, *engine).prompt.input_ids, golden.prompt_ids) << golden.question;
}

TEST(Nano, SomeAnswersAreTheOfficialOnesAskedTogether) {
  EngineOptions options;
  options.prefill_chunk = 100;
  const auto engine = Engine::open(nano_folder(), options);
  const std::vector<NanoGolden> all = nano_goldens();
  const std::vector<NanoGolden> some = {all[5], all[12], all[25]};
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const NanoGolden& golden : some) streams.push_back(engine->submit(nano_request(golden, *engine)));
  for (size_t i = 0; i < some.size(); ++i) expect_golden_answer(some[i], streams[i]->answer());
}

}  // namespace
}  // namespace vl2
