#include "engine/runtime/channels.h"

#include <gtest/gtest.h>

#include <thread>

#include "engine/runtime/token_stream.h"

namespace vl2 {
namespace {

using std::chrono::milliseconds;

TokenEvent event(int32_t id) {
  TokenEvent e;
  e.id = id;
  return e;
}

TEST(TokenChannel, ReadersGetEveryTokenInOrderAndThenTheAnswer) {
  auto channel = std::make_shared<TokenChannel>();
  TokenStream stream(channel);
  std::thread writer([channel] {
    for (int32_t i = 0; i < 1000; ++i) channel->push(event(i));
    Answer answer;
    answer.finish = FinishReason::kLength;
    channel->finish(answer);
  });
  for (int32_t i = 0; i < 1000; ++i) EXPECT_EQ(stream.next()->id, i);
  EXPECT_FALSE(stream.next().has_value());
  EXPECT_FALSE(stream.next().has_value());
  EXPECT_EQ(stream.answer().finish, FinishReason::kLength);
  writer.join();
}

TEST(TokenChannel, AFailedRequestThrowsAfterItsLastTokenButNotFromAnswer) {
  auto channel = std::make_shared<TokenChannel>();
  TokenStream stream(channel);
  channel->push(event(7));
  Answer answer;
  answer.error = Error(ErrorCode::kCorrupt, "broken");
  channel->finish(answer);
  EXPECT_EQ(stream.next()->id, 7);
  EXPECT_THROW(stream.next(), Error);
  EXPECT_EQ(stream.answer().error->code(), ErrorCode::kCorrupt);
}

TEST(TokenChannel, WaitingEndsWithATokenOrTheTime) {
  auto channel = std::make_shared<TokenChannel>();
  TokenStream stream(channel);
  EXPECT_FALSE(stream.wait_for(milliseconds(1)));
  channel->push(event(1));
  EXPECT_TRUE(stream.wait_for(milliseconds(0)));
}

TEST(TokenChannel, DroppingTheStreamCancels) {
  auto channel = std::make_shared<TokenChannel>();
  { TokenStream stream(channel); }
  EXPECT_TRUE(channel->cancelled());
}

TEST(RequestQueue, TakeWaitsForARequestOrTheEnd) {
  RequestQueue queue;
  std::thread late([&] { queue.push({}); });
  EXPECT_EQ(queue.take(true).size(), 1u);
  late.join();
  EXPECT_TRUE(queue.take(false).empty());
  std::thread closing([&] { queue.close(); });
  EXPECT_TRUE(queue.take(true).empty());
  closing.join();
}

TEST(RequestQueue, AClosedQueueTakesNothingButGivesWhatItHas) {
  RequestQueue queue;
  queue.push({});
  queue.close();
  try {
    queue.push({});
    FAIL() << "a closed queue took a request";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  EXPECT_EQ(queue.take(true).size(), 1u);
  EXPECT_TRUE(queue.closed());
}

}  // namespace
}  // namespace vl2
