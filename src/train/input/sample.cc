#include "train/input/sample.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/image/tiling.h"
#include "core/processor/record_markup.h"
#include "train/input/micro_batch.h"
#include "train/input/picture_labels.h"
#include "train/input/picture_source.h"

namespace vl2::train {
namespace {

// A fault of the data and not of the machine or of us.
bool blames_data(ErrorCode code) {
  return code == ErrorCode::kInvalidArgument || code == ErrorCode::kNotFound || code == ErrorCode::kCorrupt ||
         code == ErrorCode::kUnsupported || code == ErrorCode::kIo;
}

// Runs fn; what is wrong with the data becomes a Problem.
template <typename Fn>
std::optional<Problem> problem_in(const std::string& where, ProblemKind kind, const Fn& fn) {
  try {
    fn();
    return std::nullopt;
  } catch (const Error& error) {
    if (!blames_data(error.code())) throw;
    return Problem{kind, where, error.what()};
  }
}

// Keeps the first `tokens` tokens, which end outside of pictures.
void truncate(MultimodalPrompt& prompt, int64_t tokens) {
  const auto n = static_cast<size_t>(tokens);
  prompt.input_ids.resize(n);
  prompt.labels.resize(n);
  prompt.images_seq_mask.resize(n);
  int64_t vision = std::count(prompt.images_seq_mask.begin(), prompt.images_seq_mask.end(), uint8_t{1});
  size_t images = 0;
  while (images < prompt.images.size() && vision > 0) vision -= prompt.num_image_tokens[images++];
  VL2_CHECK(vision == 0, "cut inside of picture {}", images);
  prompt.images.resize(images);
  prompt.num_image_tokens.resize(images);
  std::erase_if(prompt.message_ends, [tokens](int64_t end) { return end > tokens; });
}

bool learns_something(const MultimodalPrompt& prompt) {
  // The first label has nothing in front of it that could predict it.
  for (size_t i = 1; i < prompt.labels.size(); ++i)
    if (prompt.labels[i] != kIgnoredLabel) return true;
  return false;
}

class Planner {
 public:
  Planner(const Processor& processor, const TrainingRecord& record, const SampleOptions& options)
      : processor_(processor), record_(record), options_(options) {
    prompt_options_.mask_prompt = options.mask_prompt;
    prompt_options_.training = true;
  }

  std::variant<Sample, Problem> plan() {
    if (auto problem = check_placeholders()) return *problem;
    const bool answered = std::any_of(record_.turns.begin(), record_.turns.end(),
                                      [](const TrainingTurn& turn) { return turn.role == "assistant"; });
    if (!answered && !record_.raw_text)
      return Problem{ProblemKind::kRecord, record_.where, "a conversation without an answer of the assistant's"};
    for (const std::string& image : record_.images) {
      auto problem = problem_in(record_.where, ProblemKind::kPicture,
                                [&] { sizes_.push_back(probe_picture(image, options_.decode)); });
      if (problem) return *problem;
    }
    if (auto problem = render_turns()) return *problem;
    Sample sample;
    sample.name = record_.name();
    bool fits = true;
    // What is left to complain about here: a text that cannot be split, a picture too thin for its grid.
    auto problem = problem_in(record_.where, sizes_.empty() ? ProblemKind::kRecord : ProblemKind::kPicture,
                              [&] { fits = record_.raw_text ? fit_text(sample) : fit_turns(sample); });
    if (problem) return *problem;
    if (!fits)
      return Problem{
          ProblemKind::kTooLong, record_.where,
          fmt::format("{} takes {} tokens, expected at most {}",
                      record_.raw_text ? "the text up to its first picture" : "the first question and answer",
                      shortest_, options_.max_length)};
    if (options_.drop_long && whole_ > options_.max_length)
      return Problem{ProblemKind::kTooLong, record_.where,
                     fmt::format("all of it takes {} tokens, expected at most {}", whole_, options_.max_length)};
    if (options_.label_pictures && !record_.regions.empty())
      label_pictures(sample.prompt, record_.regions, processor_, options_.global_view_first);
    if (!learns_something(sample.prompt))
      return Problem{ProblemKind::kRecord, record_.where, "nothing to learn: it is empty, or no turn of it counts"};
    return sample;
  }

 private:
  std::optional<Problem> check_placeholders() const {
    const std::string& placeholder = processor_.config().image_token;
    size_t total = 0;
    for (size_t i = 0; i < record_.turns.size(); ++i) {
      const TrainingTurn& turn = record_.turns[i];
      const size_t here = count_placeholders(turn.content, placeholder);
      if (here > 0 && !record_.raw_text && turn.role != "user")
        return Problem{ProblemKind::kPlaceholders, record_.where,
                       fmt::format("turn {}, {}'s, has {}; only a user's may", i + 1, turn.role, placeholder)};
      total += here;
    }
    if (total == record_.images.size()) return std::nullopt;
    return Problem{ProblemKind::kPlaceholders, record_.where,
                   fmt::format("{} {} in the text for {} pictures", total, placeholder, record_.images.size())};
  }

  std::optional<Problem> render_turns() {
    std::vector<TrainingTurn> turns;
    auto problem = problem_in(record_.where, ProblemKind::kBox, [&] { turns = turns_with_markup(record_, sizes_); });
    if (problem) return problem;
    for (TrainingTurn& turn : turns) {
      if (const auto wrong = markup_problem(turn.content)) return Problem{ProblemKind::kBox, record_.where, *wrong};
      messages_.push_back({std::move(turn.role), std::move(turn.content), turn.loss});
    }
    return std::nullopt;
  }

  // Messages up to the last answer that ends within the limit; 0: none.
  size_t messages_that_fit(const MultimodalPrompt& prompt) {
    size_t fit = 0;
    shortest_ = 0;
    for (size_t i = 0; i < prompt.message_ends.size(); ++i) {
      if (messages_[i].role != "assistant") continue;
      if (shortest_ == 0) shortest_ = prompt.message_ends[i];
      if (prompt.message_ends[i] <= options_.max_length) fit = i + 1;
    }
    return fit;
  }

  size_t images_in(size_t messages) const {
    size_t images = 0;
    for (size_t i = 0; i < messages; ++i)
      images += count_placeholders(messages_[i].content, processor_.config().image_token);
    return images;
  }

  MultimodalPrompt build(size_t messages) const {
    return processor_.build_from_sizes(std::span(messages_).first(messages),
                                       std::span(sizes_).first(images_in(messages)), prompt_options_);
  }

  // With fewer pictures left each may be cut finer and take more tokens, so the prompt is built anew until none goes.
  bool fit_turns(Sample& sample) {
    size_t messages = messages_.size();
    sample.prompt = build(messages);
    whole_ = sample.num_tokens();
    while (true) {
      const size_t fit = messages_that_fit(sample.prompt);
      if (fit == 0 || fit == messages) return fit > 0;
      sample.shortened = true;
      if (images_in(fit) == images_in(messages)) {
        truncate(sample.prompt, sample.prompt.message_ends[fit - 1]);
        return true;
      }
      messages = fit;
      sample.prompt = build(messages);
    }
  }

  // The pictures of a cut text keep the grids they have in the whole one.
  bool fit_text(Sample& sample) {
    sample.prompt = processor_.build_raw_from_sizes(messages_.front().content, sizes_, prompt_options_);
    const MultimodalPrompt& prompt = sample.prompt;
    int64_t cut = options_.max_length, at = 0;
    whole_ = sample.num_tokens();
    if (whole_ <= cut) return true;
    for (size_t image = 0; image < prompt.images.size(); ++image) {
      while (prompt.images_seq_mask[static_cast<size_t>(at)] == 0) ++at;
      const int64_t end = at + prompt.num_image_tokens[image];
      if (image == 0 && end > options_.max_length) {
        shortest_ = end;
        return false;
      }
      if (at < cut && cut < end) cut = at;
      at = end;
    }
    sample.shortened = true;
    truncate(sample.prompt, cut);
    return true;
  }

  const Processor& processor_;
  const TrainingRecord& record_;
  const SampleOptions& options_;
  PromptOptions prompt_options_;
  std::vector<ImageSize> sizes_;
  std::vector<Message> messages_;
  int64_t shortest_ = 0;  // tokens of the least that must fit
  int64_t whole_ = 0;     // of all of it
};

}  // namespace

std::string_view problem_name(ProblemKind kind) {
  constexpr std::array<std::string_view, kNumProblemKinds> kNames = {"record", "placeholders", "picture", "box",
                                                                     "too long"};
  return kNames.at(static_cast<size_t>(kind));
}

std::variant<Sample, Problem> plan_sample(const Processor& processor, const TrainingRecord& record,
                                          const SampleOptions& options) {
  return Planner(processor, record, options).plan();
}

std::optional<Problem> load_pictures(Sample& sample, const TrainingRecord& record, const DecodeOptions& options) {
  std::vector<TiledImage>& images = sample.prompt.images;
  VL2_CHECK(images.size() <= record.images.size(), "{} of {} pictures", images.size(), record.images.size());
  for (size_t i = 0; i < images.size(); ++i) {
    const std::string& source = record.images[i];
    const auto same = std::find(record.images.begin(), record.images.end(), source) - record.images.begin();
    if (same < static_cast<std::ptrdiff_t>(i)) {
      images[i].pixels = images[static_cast<size_t>(same)].pixels;
      continue;
    }
    auto problem = problem_in(record.where, ProblemKind::kPicture, [&] {
      const Image image = load_picture(source, options);
      TiledImage& tiled = images[i];
      if (image.width != tiled.original_width || image.height != tiled.original_height)
        fail(ErrorCode::kCorrupt, "picture {} is {} x {} now and was {} x {}: its file changed", i + 1, image.width,
             image.height, tiled.original_width, tiled.original_height);
      tiled.pixels = cut_tiles(image, {tiled.tiles_wide, tiled.tiles_high}, tiled.tile_size);
    });
    if (problem) return problem;
  }
  return std::nullopt;
}

}  // namespace vl2::train
