// One training record -> one training sample (spec/training.md 4): token ids, labels and the grid of every picture from
// the headers of the picture files alone; pixels later, when the sample's turn has come.
//
// Pure functions: any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "core/dataset/training_record.h"
#include "core/image/decode.h"
#include "core/processor/processor.h"

namespace vl2::train {

// Why a record is not learnt from.
enum class ProblemKind {
  kRecord,        // no JSON, wrong keys, nothing to learn in it
  kPlaceholders,  // another number of "<image>" than of pictures, or in the wrong turn
  kPicture,       // a picture that is missing or cannot be read
  kBox,           // a box outside its picture, malformed markup
  kTooLong,       // no first turn fits
};
inline constexpr int kNumProblemKinds = 5;
std::string_view problem_name(ProblemKind kind);  // "record", "placeholders", "picture", "box", "too long"

struct Problem {
  ProblemKind kind = ProblemKind::kRecord;
  std::string where;  // "FILE:LINE"
  std::string reason;
  bool operator==(const Problem&) const = default;
};

struct SampleOptions {
  int64_t max_length = 4096;  // tokens, those of pictures included
  bool mask_prompt = false;   // labels are the assistant's words and eos alone
  DecodeOptions decode = {};
  // Where a record says what its pictures' regions show, their tokens learn to say it: see label_pictures().
  bool label_pictures = false;
  bool global_view_first = true;  // as the model's config
  bool drop_long = false;         // a record that does not fit whole is left out instead of shortened
};

struct Sample {
  MultimodalPrompt prompt;  // pixels empty until load_pictures()
  std::string name;         // TrainingRecord::name()
  bool shortened = false;   // turns, or the end of a raw text, were left out

  int64_t num_tokens() const { return static_cast<int64_t>(prompt.input_ids.size()); }
};

// Turns that do not fit, and such as follow the last answer, are dropped from the end with their pictures; a raw text
// is cut, never inside of a picture. Throws only what is no fault of the record (kOutOfMemory, kInternal).
std::variant<Sample, Problem> plan_sample(const Processor& processor, const TrainingRecord& record,
                                          const SampleOptions& options);

// Decodes and cuts the pictures of a planned sample; a picture that stands in the record twice is decoded once. Sizes
// must still be those planned with.
std::optional<Problem> load_pictures(Sample& sample, const TrainingRecord& record, const DecodeOptions& options);

}  // namespace vl2::train
