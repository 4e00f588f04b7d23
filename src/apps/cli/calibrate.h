// What `vl2 quantize --calibrate` weighs errors by: the model run over conversations.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "apps/cli/conversation_file.h"
#include "apps/cli/progress_line.h"
#include "core/checkpoint/quantize.h"

namespace vl2::cli {

// One conversation with its pictures is in memory at a time, beside the model. kOutOfMemory before anything is loaded;
// kInvalidArgument and kCorrupt for a conversation; kCancelled.
Importance calibrate(const std::filesystem::path& model, ModelFormat format,
                     const std::vector<ConversationFile>& conversations, int threads, ProgressLine& progress,
                     const std::function<bool()>& cancelled);

}  // namespace vl2::cli
