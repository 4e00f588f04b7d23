// Labels for the tokens of pictures: each learns to say what its own place in the picture shows. From that a vision
// encoder without any training learns to see within minutes, where answers alone take hours to get through to it.
#pragma once

#include <span>

#include "core/dataset/training_record.h"
#include "core/processor/processor.h"

namespace vl2::train {

// Gives the tokens of every picture that has regions a label: the first token of the label of the last region that
// holds the middle of the token's patches, or of "." where none does. `prompt`: of the same record and processor,
// before labels are shifted; what predicts a label is the token in front of it, so a token's own stands one further on.
void label_pictures(MultimodalPrompt& prompt, std::span<const PictureRegion> regions, const Processor& processor,
                    bool global_view_first);

}  // namespace vl2::train
