#include "apps/cli/conversation.h"

#include "apps/cli/answering.h"

namespace vl2::cli {

size_t Conversation::num_attached() const { return pictures_.size() - num_sent_; }

void Conversation::ask(const std::string& text) {
  turns_.push_back({text, with_placeholders(text, num_attached()), "", num_sent_});
  num_sent_ = pictures_.size();
}

void Conversation::answer(std::string_view text) {
  // A placeholder in an answer stands for nothing, and no prompt could be made of it.
  std::string clean(text);
  constexpr std::string_view kPlaceholder = "<image>";
  for (size_t at = clean.find(kPlaceholder); at != clean.npos; at = clean.find(kPlaceholder))
    clean.erase(at, kPlaceholder.size());
  turns_.back().answer = clean;
}

std::string Conversation::take_back() {
  if (turns_.empty()) return {};
  std::string typed = std::move(turns_.back().typed);
  num_sent_ = turns_.back().first_picture;
  turns_.pop_back();
  return typed;
}

void Conversation::forget(size_t turns, size_t pictures) {
  turns_.erase(turns_.begin(), turns_.begin() + static_cast<std::ptrdiff_t>(turns));
  pictures_.erase(pictures_.begin(), pictures_.begin() + static_cast<std::ptrdiff_t>(pictures));
  num_sent_ -= pictures;
  for (Turn& turn : turns_) turn.first_picture -= pictures;
}

void Conversation::clear() {
  turns_.clear();
  pictures_.clear();
  num_sent_ = 0;
}

std::vector<Message> Conversation::messages() const {
  std::vector<Message> result;
  if (!system_.empty()) result.push_back({"system", system_});
  for (const Turn& turn : turns_) {
    result.push_back({"user", turn.question});
    result.push_back({"assistant", turn.answer});
  }
  return result;
}

}  // namespace vl2::cli
