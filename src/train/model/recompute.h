// Activations are not kept but computed again when the backward pass needs them.
#pragma once

#include <functional>
#include <string>

#include "train/model/model_context.h"

namespace vl2::train {

// One tensor in, one tensor out; weights only through the context it is handed.
using Stage = std::function<at::Tensor(const ModelContext& context, const at::Tensor& x)>;

// stage(context, x), of which only x is kept. `prefix`: all weights that the stage reads begin with it. Gradients are
// bit for bit those without recomputation: the same operations run on the same values.
at::Tensor recompute(const ModelContext& context, const std::string& prefix, const at::Tensor& x, const Stage& stage);

}  // namespace vl2::train
