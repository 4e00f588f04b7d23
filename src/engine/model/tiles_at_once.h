// How many tiles go through the encoder together, at most.
#pragma once

#include <cstdint>

namespace vl2 {

// On a host more only take memory (a tile of the releases about 40 MB): its products are as fast with four. A device is
// filled by the ten of a large picture.
constexpr int64_t tiles_at_once(bool on_host) { return on_host ? 4 : 10; }

}  // namespace vl2
