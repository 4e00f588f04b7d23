// The model's own answers to records, while it is trained or afterwards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/dataset/training_record.h"
#include "core/image/image.h"
#include "core/processor/processor.h"
#include "train/model/deepseek_vl2.h"

namespace vl2::train {

struct RecordAnswer {
  std::string id, task;
  std::string question, expected, answer;  // of the last turn
  float margin = 0;                        // the least of the answer's tokens: largest logit less the second
  std::vector<Image> images;               // of the record
};

// Asks the record's last question, what was said before it taken from the record. Greedy. kInvalidArgument: no user's
// turn; errors of pictures as decoding gives them.
RecordAnswer answer_record(const DeepseekVl2& model, const Processor& processor, const TrainingRecord& record,
                           int64_t max_tokens, DType compute);

// The last picture of the answer with the boxes the model named drawn in; empty without a picture or a box.
std::optional<Image> draw_answer(const RecordAnswer& answer);

// {"id", "task", "question", "expected", "answer", "margin"}, one line.
std::string answer_json(const RecordAnswer& answer);

}  // namespace vl2::train
