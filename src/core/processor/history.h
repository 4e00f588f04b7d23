// A conversation that outgrows the context: which of its oldest turns to forget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/processor/processor.h"

namespace vl2 {

// How much of a conversation goes: this many messages behind a system message, and this many pictures from the front.
struct HistoryCut {
  size_t messages = 0;
  size_t images = 0;
  bool operator==(const HistoryCut&) const = default;
};

// The smallest cut in front of a user's message that leaves a prompt of at most max_tokens, vision tokens included; the
// last user's message always stays, with the answer behind it, so a prompt cut so far may still be too long. (The
// reference's demo counts a picture as one token.) Fewer pictures can be cut finer and take more tokens each: that is
// accounted for. Errors: as Processor::build_from_sizes, of the whole conversation. Pure function: any thread.
HistoryCut fit_history(const Processor& processor, std::span<const Message> messages, std::span<const ImageSize> sizes,
                       int64_t max_tokens, const PromptOptions& options = {});

}  // namespace vl2
