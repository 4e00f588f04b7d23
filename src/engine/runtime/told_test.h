// For tests only: answers to be compared to the last bit.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/runtime/engine.h"

namespace vl2 {

// All that a request's reader learns.
struct Told {
  std::vector<int32_t> ids;
  std::vector<std::string> pieces;
  std::vector<uint32_t> logprobs;                    // bits
  std::vector<std::pair<int32_t, uint32_t>> others;  // top logprobs
  std::string text;
  std::optional<std::string> stop_string;
  std::optional<std::string> error;
  FinishReason finish = FinishReason::kError;
  std::vector<int64_t> usage;

  bool operator==(const Told&) const = default;
};
inline void PrintTo(const Told& told, std::ostream* out) {
  *out << finish_reason_name(told.finish) << " after";
  for (const int32_t id : told.ids) *out << " " << id;
}

inline Told read(TokenStream& stream) {
  Told told;
  const Answer& answer = stream.answer();
  while (!answer.error) {
    const auto event = stream.next();
    if (!event) break;
    EXPECT_EQ(event->id, answer.ids.at(told.ids.size()));
    told.ids.push_back(event->id);
    told.pieces.push_back(event->text);
    told.logprobs.push_back(std::bit_cast<uint32_t>(event->logprob));
    for (const TokenLogprob& top : event->top) told.others.emplace_back(top.id, std::bit_cast<uint32_t>(top.logprob));
  }
  told.text = answer.text;
  told.stop_string = answer.stop_string;
  if (answer.error) told.error = answer.error->what();
  told.finish = answer.finish;
  const Usage& usage = answer.usage;
  told.usage = {usage.prompt_tokens, usage.vision_tokens, usage.tiles, usage.completion_tokens};
  EXPECT_LE(answer.timings.accepted_tokens, answer.timings.drafted_tokens);
  EXPECT_LT(answer.timings.accepted_tokens, std::max<int64_t>(usage.completion_tokens, 1));
  return told;
}

}  // namespace vl2
