#include "core/text/pre_tokenizer.h"

#include <fmt/format.h>

namespace vl2 {
namespace {

void find_literal(std::string_view subject, std::string_view literal, std::vector<Span>& matches) {
  matches.clear();
  if (literal.empty()) return;
  for (size_t at = subject.find(literal); at != subject.npos; at = subject.find(literal, at + literal.size()))
    matches.push_back({at, at + literal.size()});
}

// Joins stretches by the behaviour. The stretches come in order, cover the piece and alternate freely between
// matches and gaps.
class Joiner {
 public:
  Joiner(std::string_view piece, SplitBehavior behavior, std::vector<std::string_view>& out)
      : piece_(piece), behavior_(behavior), out_(out) {}

  void add(Span span, bool is_match) {
    const bool first = !open_;
    switch (behavior_) {
      case SplitBehavior::kRemoved:
        if (!is_match) emit(span);
        return;
      case SplitBehavior::kIsolated:
        emit(span);
        return;
      case SplitBehavior::kMergedWithPrevious:  // "the-final" by "-": "the-", "final"
        if (first || !is_match || last_is_match_) start(span);
        break;
      case SplitBehavior::kMergedWithNext:  // "the", "-final"
        if (first || !last_is_match_ || is_match) start(span);
        break;
      case SplitBehavior::kContiguous:
        if (first || is_match != last_is_match_) start(span);
        break;
    }
    current_.end = span.end;
    last_is_match_ = is_match;
  }

  void finish() {
    if (open_) emit(current_);
  }

 private:
  void start(Span span) {
    finish();
    current_ = span;
    open_ = true;
  }
  void emit(Span span) {
    if (span.end > span.begin) out_.push_back(piece_.substr(span.begin, span.end - span.begin));
  }

  std::string_view piece_;
  SplitBehavior behavior_;
  std::vector<std::string_view>& out_;
  Span current_;
  bool open_ = false;
  bool last_is_match_ = false;
};

void apply(const SplitStep& step, std::string_view piece, PreTokenizer::Scratch& scratch,
           std::vector<std::string_view>& out) {
  if (step.regex.empty())
    find_literal(piece, step.literal, scratch.matches);
  else
    step.regex.front().find_all(piece, scratch.regex, scratch.matches);
  Joiner joiner(piece, step.behavior, out);
  size_t end = 0;
  for (const Span& match : scratch.matches) {
    if (match.begin > end) joiner.add({end, match.begin}, step.invert);
    joiner.add(match, !step.invert);
    end = match.end;
  }
  if (end < piece.size()) joiner.add({end, piece.size()}, step.invert);
  joiner.finish();
}

}  // namespace

const char* const kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

const std::vector<std::string_view>& PreTokenizer::split(std::string_view text, Scratch& scratch) const {
  scratch.prefixed.clear();
  scratch.pieces.clear();
  if (!text.empty()) scratch.pieces.push_back(text);
  for (const SplitStep& step : steps_) {
    scratch.next.clear();
    for (std::string_view piece : scratch.pieces) {
      if (step.add_prefix_space && !piece.starts_with(' '))
        piece = scratch.prefixed.emplace_back(fmt::format(" {}", piece));
      apply(step, piece, scratch, scratch.next);
    }
    scratch.pieces.swap(scratch.next);
  }
  return scratch.pieces;
}

}  // namespace vl2
