// One JSON object of a training set -> TrainingRecord, in any of the forms of docs/training_data.md.
//
// Pure functions over hostile bytes: any thread.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/dataset/training_record.h"

namespace vl2 {

enum class RecordFormat {
  kMessages,  // {"messages": [{"role", "content", "loss"}], "images": [...], "objects": {...}}; ours, ms-swift, OpenAI
  kShareGpt,  // {"conversations": [{"from", "value"}], "image": ...}; LLaVA
  kInstruction,  // {"instruction", "input", "output"}, or {"query", "response"}; Alpaca
  kText,         // {"text": ...}: learnt whole
};

// "messages", "sharegpt", "instruction", "text"
std::optional<RecordFormat> record_format(std::string_view name);
std::string_view format_name(RecordFormat format);

// Paths of pictures are joined to image_root unless they are absolute. Without a format, the record's keys tell it.
std::variant<TrainingRecord, BadRecord> parse_record(std::string_view json, const std::string& where,
                                                     const std::filesystem::path& image_root,
                                                     std::optional<RecordFormat> format = std::nullopt);

}  // namespace vl2
