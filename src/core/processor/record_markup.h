// Boxes of a training record -> the markup the model is trained on (spec/text.md 5), and a strict check of markup that
// is there already. Pure functions: any thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dataset/training_record.h"
#include "core/image/image.h"

namespace vl2 {

// The record's turns with "<ref-object>" as <|ref|>label<|/ref|> and "<bbox>" as <|det|>[[x1, y1, x2, y2]]<|/det|>, 0
// to 999 of the picture; boxes side by side (",", white space or nothing between) share one list. Without objects: as
// they are. sizes: of the record's pictures. kInvalidArgument: another number of placeholders than of objects; a box of
// no picture; a corner more than a pixel outside of it.
std::vector<TrainingTurn> turns_with_markup(const TrainingRecord& record, std::span<const ImageSize> sizes);

// What a model must not learn: <|det|> without its end, anything but lists of four integers inside, numbers above 999,
// corners in the wrong order. nullopt: all is well.
std::optional<std::string> markup_problem(std::string_view text);

}  // namespace vl2
