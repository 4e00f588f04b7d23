// A conversation as a JSON file, for `vl2 prompt` and `vl2 trace --request`.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/cli/options.h"
#include "core/processor/processor.h"

namespace vl2::cli {

struct ConversationFile {
  std::vector<Message> messages;
  std::vector<std::string> pictures;            // paths, in the order of the messages
  std::optional<std::vector<ImageSize>> sizes;  // instead of pictures
};

// {"messages": [{"role", "content", "images": [PATH, ...]}, ...]}, or sizes instead of pictures: {"messages": [...],
// "image_sizes": [[width, height], ...]}. `where` names it in errors. kCorrupt: anything else.
ConversationFile parse_conversation(std::string_view json, const std::string& where);

// From a file, or from stdin for "-". Paths of pictures count from the folder of the file, or from where we run if
// there is nothing there.
ConversationFile read_conversation(const std::string& path);

// The same of a file with one such object a line; empty lines do not count. kCorrupt: with the line; no conversation.
std::vector<ConversationFile> read_conversations(const std::string& path);

// The prompt, with pixels unless the file gives sizes only.
MultimodalPrompt build_prompt(const ConversationFile& conversation, const Processor& processor,
                              const PromptOptions& options, const PictureOptions& pictures);

// Pictures that no placeholder stands for, which the releases' processor leaves out without a word.
size_t num_spare_pictures(const ConversationFile& conversation, const MultimodalPrompt& prompt);

}  // namespace vl2::cli
