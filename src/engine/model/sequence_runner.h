// Runs a few sequences by hand through one paged cache, step by step: for traces and tests, which want to choose every
// step themselves. Serving goes through engine/runtime.
//
// Owns the cache and holds the pictures' features in the backend's workspace: runners must be destroyed in the reverse
// order of their creation. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/model/deepseek_vl2.h"

namespace vl2 {

struct SequenceInput {
  std::vector<int32_t> ids;
  std::vector<bool> is_image;     // per id: replaced by the next row of the pictures' features
  std::vector<ImageGrid> images;  // in the order of their rows
  std::vector<float> pixels;      // [tiles of all images][3][size][size], normalised
};

class SequenceRunner {
 public:
  // The next `count` tokens of a sequence.
  struct Part {
    int64_t sequence;
    int64_t count;
  };
  // kBest: of each part's last token what a greedy choice takes, which is not told; for whoever measures.
  enum class Logits { kNone, kLast, kAll, kBest };

  // Where a sequence's blocks of the cache lie: no two side by side, or one behind the other, as the engine's do.
  enum class Blocks { kApart, kTogether };

  // Encodes the pictures of all sequences together, seen by `tap`. room: tokens a sequence may grow by.
  // kInvalidArgument: masks and pictures do not fit each other.
  SequenceRunner(const DeepseekVl2& model, std::vector<SequenceInput> sequences, int64_t room, StageTap* tap = nullptr,
                 Blocks blocks = Blocks::kApart);

  int64_t num_sequences() const { return static_cast<int64_t>(sequences_.size()); }
  const std::vector<int32_t>& ids(int64_t sequence) const { return sequences_[static_cast<size_t>(sequence)].ids; }
  int64_t past(int64_t sequence) const { return past_[static_cast<size_t>(sequence)]; }  // tokens already run

  // One forward step over all parts. Logits [rows, vocab] of each part's last token, or of every token.
  std::vector<float> step(std::span<const Part> parts, Logits logits, StageTap* tap = nullptr);
  // Every sequence's tokens that have not been run yet, in one step.
  std::vector<float> step_all(Logits logits, StageTap* tap = nullptr);

  void append(int64_t sequence, int32_t id);
  // Forgets every token from `length` on.
  void rewind(int64_t sequence, int64_t length);

  // Keeps the tokens, but runs them again from the first.
  void restart(int64_t sequence) { past_[static_cast<size_t>(sequence)] = 0; }

  // What layer `layer` keeps of a token that has been run.
  std::vector<float> cached(int64_t sequence, int64_t layer, int64_t token) const;

 private:
  const DeepseekVl2& model_;
  std::vector<SequenceInput> sequences_;
  Workspace::Scope scope_;
  Tensor features_;                           // rows of all pictures of all sequences
  std::vector<int64_t> first_feature_;        // of each sequence
  std::vector<std::vector<int32_t>> blocks_;  // of each sequence
  std::vector<int64_t> past_;
  std::vector<int64_t> prompt_length_;  // tokens appended later are an answer
  std::unique_ptr<KvCache> cache_;
};

}  // namespace vl2
