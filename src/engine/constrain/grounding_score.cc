#include "engine/constrain/grounding_score.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/text/utf8.h"

namespace vl2 {
namespace {

constexpr std::string_view kDigits = "0123456789";

// Where each token's bytes begin in the answer; one more for the end.
std::vector<size_t> token_begins(const Tokenizer& tokenizer, std::span<const int32_t> ids, std::string& answer) {
  std::vector<size_t> begins;
  for (const int32_t id : ids) {
    begins.push_back(answer.size());
    answer += tokenizer.token_text(id);
  }
  begins.push_back(answer.size());
  return begins;
}

}  // namespace

std::vector<ScoredObject> score_grounding(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                                          std::span<const float> logprobs) {
  if (ids.size() != logprobs.size())
    fail(ErrorCode::kInvalidArgument, "{} logprobs for {} tokens, expected one for each", logprobs.size(), ids.size());
  std::string answer;
  const std::vector<size_t> begins = token_begins(tokenizer, ids, answer);
  const auto score = [&](size_t begin, size_t end) {
    double sum = 0, count = 0;
    auto token = static_cast<size_t>(std::upper_bound(begins.begin(), begins.end(), begin) - begins.begin()) - 1;
    for (; token < ids.size() && begins[token] < end; ++token) {
      const size_t from = std::max(begin, begins[token]), to = std::min(end, begins[token + 1]);
      if (from >= to || std::string_view(answer).substr(from, to - from).find_first_of(kDigits) == answer.npos)
        continue;
      sum += logprobs[token];
      count += 1;
    }
    return count == 0 ? 0.0 : std::exp(sum / count);
  };

  std::vector<ScoredObject> objects;
  for (const GroundedObject& object : parse_grounding(answer).objects) {
    ScoredObject& scored = objects.emplace_back();
    scored.label = repair_utf8(object.label);
    for (size_t i = 0; i < object.boxes.size(); ++i)
      scored.boxes.push_back({object.boxes[i], score(object.box_places[i].begin, object.box_places[i].end)});
  }
  return objects;
}

}  // namespace vl2
