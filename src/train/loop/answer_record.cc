#include "train/loop/answer_record.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/error.h"
#include "core/image/draw.h"
#include "core/text/grounding.h"
#include "train/input/picture_source.h"

namespace vl2::train {

RecordAnswer answer_record(const DeepseekVl2& model, const Processor& processor, const TrainingRecord& record,
                           int64_t max_tokens, DType compute) {
  RecordAnswer result;
  result.id = record.id.empty() ? record.where : record.id;
  result.task = record.task;
  auto last = static_cast<int64_t>(record.turns.size()) - 1;
  while (last >= 0 && record.turns[static_cast<size_t>(last)].role != "user") --last;
  if (last < 0) fail(ErrorCode::kInvalidArgument, "{}: no user's turn to answer", record.name());
  std::vector<Message> messages;
  for (size_t i = 0; i <= static_cast<size_t>(last); ++i)
    messages.push_back({record.turns[i].role, record.turns[i].content});
  result.question = messages.back().content;
  if (static_cast<size_t>(last) + 1 < record.turns.size())
    result.expected = record.turns[static_cast<size_t>(last) + 1].content;
  messages.push_back({"assistant", ""});
  size_t pictures = 0;
  for (const Message& message : messages)
    if (message.role == "user") pictures += count_placeholders(message.content, processor.config().image_token);
  for (size_t i = 0; i < std::min(pictures, record.images.size()); ++i)
    result.images.push_back(load_picture(record.images[i], {}));
  const MultimodalPrompt prompt = processor.build(messages, result.images);
  const c10::NoGradGuard no_grad;
  Generation generation = model.generate(prompt, max_tokens, compute);
  if (!generation.margins.empty())
    result.margin = *std::min_element(generation.margins.begin(), generation.margins.end());
  if (!generation.tokens.empty() && generation.tokens.back() == processor.special().eos) generation.tokens.pop_back();
  result.answer = processor.tokenizer().decode(generation.tokens);
  return result;
}

std::optional<Image> draw_answer(const RecordAnswer& answer) {
  if (answer.images.empty()) return std::nullopt;
  const Image& image = answer.images.back();
  std::vector<LabelledBox> boxes;
  for (const GroundedObject& object : parse_grounding(answer.answer).objects) {
    for (const Box& box : object.boxes) {
      const PixelBox p = decode_box(box, image.width, image.height);
      boxes.push_back({p.x1, p.y1, p.x2, p.y2, object.label});
    }
  }
  if (boxes.empty()) return std::nullopt;
  return draw_boxes(image, boxes);
}

std::string answer_json(const RecordAnswer& answer) {
  const nlohmann::ordered_json line = {
      {"id", answer.id},         {"task", answer.task},    {"question", answer.question}, {"expected", answer.expected},
      {"answer", answer.answer}, {"margin", answer.margin}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace vl2::train
