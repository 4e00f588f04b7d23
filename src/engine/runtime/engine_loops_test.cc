// Answers that go round in circles, of whole engines.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/runtime/engine_test.h"
#include "engine/runtime/loop_detector.h"

namespace vl2 {
namespace {

TEST(LoopingAnswers, EndWhereTheLoopIsFoundIfAsked) {
  const auto engine = test_engine({}, {}, "test-tiny");
  bool found = false;
  for (uint64_t seed = 1; seed <= 20 && !found; ++seed) {
    SCOPED_TRACE(seed);
    Request request = test_request(test_prompt(engine->config(), 12, {}, seed), 400);
    const Answer whole = engine->submit(request)->answer();
    ASSERT_EQ(whole.finish, FinishReason::kLength);
    LoopDetector detector;
    const auto loop = std::ranges::find_if(whole.ids, [&](int32_t id) { return detector.push(id); });
    request.detect_loops = true;
    const auto stream = engine->submit(request);
    const Answer& answer = stream->answer();
    if (loop == whole.ids.end()) {
      EXPECT_EQ(answer.finish, FinishReason::kLength);
      continue;
    }
    found = true;
    EXPECT_EQ(answer.finish, FinishReason::kRepetition);
    EXPECT_STREQ(finish_reason_name(answer.finish), "repetition");
    EXPECT_EQ(answer.ids, std::vector<int32_t>(whole.ids.begin(), loop + 1));
    EXPECT_EQ(answer.text, engine->tokenizer().decode(answer.ids));
  }
  EXPECT_TRUE(found) << "greedy answers of random models end in loops";
}

}  // namespace
}  // namespace vl2
