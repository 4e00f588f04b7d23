// What a launch checks on the host (VL2_LAUNCH calls these).
#pragma once

#include <cstddef>

#include "engine/cuda/device/stream.h"

namespace vl2::cuda {

// Throws Error where the launch was refused. Faults of a running kernel show at the next synchronisation.
void check_launch(const char* kernel);
// Raises the kernel's limit of dynamic shared memory where `bytes` is beyond what every kernel has (48 KiB).
void allow_shared(const char* name, const void* kernel, size_t bytes);
// Whether the kernel was compiled for a generation that has await_earlier_kernels() (sm_90), and runs on one.
bool knows_to_wait(const void* kernel);

// What launchers ask of the device they launch on, to choose among kernels.
struct CurrentDevice {
  int major = 0;  // compute capability; 0: the software device
  int multiprocessors = 1;
};
CurrentDevice current_device();

}  // namespace vl2::cuda
