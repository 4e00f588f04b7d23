// Learning curves as a picture, drawn with the project's own image code. Pure functions; without fonts on the machine
// the picture has no text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/image/image.h"
#include "train/log/json_log.h"

namespace vl2::train {

struct CurveOptions {
  int64_t width = 960, height = 540;  // pixels; text and lines grow with the width
  std::string title;
  std::string x_label = "step";
  std::string y_label;
  double smoothing = 0.9;  // weight of what came before, 0 to below 1; 0: raw values only
  bool log_y = false;      // needs positive values; others are left out
};

// Every series as a strong line of its running mean over a faint one of its values. The value axis leaves out the
// highest hundredth of the values, such as those of the first steps. kInvalidArgument: no series has a value, a size
// below 200 x 150 or above 8192 pixels, smoothing out of range.
Image draw_curves(std::span<const LogSeries> series, const CurveOptions& options);

// The same of log files into a picture file (.png, .jpg): `key` of each, named after the folder the log lies in. Errors
// of read_log, draw_curves and save_image.
void save_curves(std::span<const std::filesystem::path> logs, const std::string& key,
                 const std::filesystem::path& picture, const CurveOptions& options);

// Exponential mean without the pull of its start: s_i = sum_j w^(i-j) v_j / sum_j w^(i-j).
std::vector<double> smoothed(std::span<const double> values, double weight);

// Round numbers (1, 2 or 5 times a power of ten) from within [low, high], about `count` of them.
std::vector<double> nice_ticks(double low, double high, int count);

std::string tick_text(double value, double step);  // no more digits than the distance of ticks needs

}  // namespace vl2::train
