// nano answers as the official implementation does, on the CPU backend.
#include "runtime/nano_goldens.h"

namespace vl2 {
namespace {

TEST(Nano, PromptsAreTheOfficialOnes) {
  const auto engine = Engine::open(nano_folder());
  for (const NanoGolden& golden : nano_goldens())
    EXPECT_EQ(nano_request(golden, *engine).prompt.input_ids, golden.prompt_ids) << golden.question;
}

TEST(Nano, AnswersAreTheOfficialOnes) {
  const auto engine = Engine::open(nano_folder(), {.backend = "cpu"});
  for (const NanoGolden& golden : nano_goldens())
    expect_golden_answer(golden, engine->submit(nano_request(golden, *engine))->answer());
}

TEST(Nano, AnswersAreTheSameForAllAtOnce) {
  EngineOptions options;
  options.backend = "cpu";
  options.max_cached_tokens = 8192;
  options.prefill_chunk = 100;
  const auto engine = Engine::open(nano_folder(), options);
  const std::vector<NanoGolden> goldens = nano_goldens();
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const NanoGolden& golden : goldens) streams.push_back(engine->submit(nano_request(golden, *engine)));
  for (size_t i = 0; i < goldens.size(); ++i) expect_golden_answer(goldens[i], streams[i]->answer());
}

}  // namespace
}  // namespace vl2
