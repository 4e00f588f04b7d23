// What a backend's hardware can do at most, measured in the same run as the work it is compared with.
#pragma once

#include <map>
#include <string>

#include "core/quant/panel_format.h"

namespace vl2 {

struct MachineLimits {
  double read_gbps = 0;  // memory read by all threads together, 1e9 bytes a second
  // All threads, 1e12 operations a second, by unit: "avx512_f32", "avx512_bf16", "vnni_int8".
  std::map<std::string, double> tflops;
};

// Measures when asked, about a third of a second each time; keeps a buffer of 1 GiB in between.
class LimitMeter {
 public:
  virtual ~LimitMeter() = default;
  virtual MachineLimits measure() = 0;
  // The unit of MachineLimits::tflops that multiplies matrices of this form with the backend's options.
  virtual std::string unit(PanelFormat format) const = 0;
  // The one that multiplies in the attention of pictures and over latents.
  virtual std::string attention_unit() const { return unit(PanelFormat::kBf16); }
};

}  // namespace vl2
