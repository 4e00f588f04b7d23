// What launchers demand of their arguments. VL2_CHECK for .cu files: nvcc cannot compile its format strings.
#pragma once

namespace vl2::cuda {

// Throws Error{kInternal} that names the launcher where `holds` is false. what: the demand, in words.
void check_argument(bool holds, const char* launcher, const char* what);

}  // namespace vl2::cuda
