// Where the twin computes.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace vl2::train {

// "cpu", "cuda", "cuda:N", or "auto": the first GPU where libtorch finds one, else the CPU. kUnsupported: there is no
// such GPU, or libtorch was built without CUDA.
at::Device training_device(const std::string& name);

}  // namespace vl2::train
