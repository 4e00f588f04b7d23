#include "core/processor/history.h"

#include <vector>

namespace vl2 {

HistoryCut fit_history(const Processor& processor, std::span<const Message> messages, std::span<const ImageSize> sizes,
                       int64_t max_tokens, const PromptOptions& options) {
  const auto length = [&](std::span<const Message> m, std::span<const ImageSize> s) {
    return static_cast<int64_t>(processor.build_from_sizes(m, s, options).input_ids.size());
  };
  HistoryCut cut;
  if (length(messages, sizes) <= max_tokens) return cut;
  const size_t first = !messages.empty() && chat_role(messages[0].role) == ChatRole::kSystem ? 1 : 0;
  HistoryCut next;
  for (size_t i = first; i < messages.size(); ++i) {
    if (i > first && chat_role(messages[i].role) == ChatRole::kUser) {
      cut = next;
      std::vector<Message> rest(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(first));
      rest.insert(rest.end(), messages.begin() + static_cast<std::ptrdiff_t>(i), messages.end());
      if (length(rest, sizes.subspan(cut.images)) <= max_tokens) break;
    }
    ++next.messages;
    next.images += count_placeholders(messages[i].content, processor.config().image_token);
  }
  return cut;
}

}  // namespace vl2
