#include "train/log/curve.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/image/encode.h"
#include "train/log/canvas.h"
#include "train/log/progress.h"

namespace vl2::train {
namespace {

constexpr Colour kPaper = {255, 255, 255}, kGrid = {232, 234, 237}, kAxis = {150, 155, 162}, kInk = {60, 64, 70},
                 kTitle = {25, 28, 33};
// Apart from each other also for the colour-blind.
constexpr std::array<Colour, 7> kColours = {
    {{0, 105, 180}, {222, 112, 0}, {0, 140, 95}, {190, 40, 60}, {120, 80, 175}, {105, 75, 55}, {90, 150, 190}}};

// From values to pixels. With a logarithmic axis, low and high are logarithms.
struct Axes {
  Area plot;
  double x_low = 0, x_high = 1, y_low = 0, y_high = 1;
  bool log_y = false;

  double x(double step) const { return plot.left + (step - x_low) / (x_high - x_low) * (plot.right - plot.left); }
  double y(double value) const {
    const double v = log_y ? std::log10(value) : value;
    return plot.bottom - (v - y_low) / (y_high - y_low) * (plot.bottom - plot.top);
  }
};

LogSeries usable(const LogSeries& series, bool log_y) {
  LogSeries out;
  out.name = series.name;
  for (size_t i = 0; i < series.values.size(); ++i) {
    if (!std::isfinite(series.values[i]) || (log_y && series.values[i] <= 0)) continue;
    out.steps.push_back(series.steps[i]);
    out.values.push_back(series.values[i]);
  }
  return out;
}

void set_ranges(const std::vector<LogSeries>& series, Axes& axes) {
  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low;
  std::vector<double> values;
  for (const LogSeries& s : series) {
    for (const double step : s.steps) x_low = std::min(x_low, step), x_high = std::max(x_high, step);
    values.insert(values.end(), s.values.begin(), s.values.end());
  }
  const auto hundredth = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) * 99 / 100);
  std::nth_element(values.begin(), hundredth, values.end());
  double high = *hundredth, low = *std::min_element(values.begin(), values.end());
  if (axes.log_y) high = std::log10(high), low = std::log10(low);
  if (!(high > low)) {
    const double room = axes.log_y || high == 0 ? 1 : std::abs(high) / 2;
    high += room, low -= room;
  }
  const double margin = 0.04 * (high - low);
  // A loss that comes near 0 is shown with its 0.
  axes.y_low = !axes.log_y && low >= 0 && low < 0.35 * high ? 0 : low - margin;
  axes.y_high = high + margin;
  axes.x_low = x_low > 0 && x_low < 0.1 * x_high ? 0 : x_low;
  axes.x_high = x_high > axes.x_low ? x_high : axes.x_low + 1;
}

// At most two points of a pixel column, its least and greatest value in their order: a log of a million steps draws
// quickly and keeps its spikes.
std::vector<Point> thinned(const LogSeries& series, std::span<const double> values, const Axes& axes) {
  std::vector<Point> points;
  size_t i = 0;
  while (i < values.size()) {
    const double column = std::floor(axes.x(series.steps[i]));
    size_t least = i, greatest = i, end = i;
    for (; end < values.size() && std::floor(axes.x(series.steps[end])) == column; ++end) {
      if (values[end] < values[least]) least = end;
      if (values[end] > values[greatest]) greatest = end;
    }
    for (const size_t at : {std::min(least, greatest), std::max(least, greatest)})
      points.emplace_back(axes.x(series.steps[at]), axes.y(values[at]));
    i = std::max(end, i + 1);  // a step that is no number cannot hold the loop
  }
  return points;
}

std::vector<double> y_ticks(const Axes& axes) {
  if (!axes.log_y) return nice_ticks(axes.y_low, axes.y_high, 6);
  std::vector<double> ticks;
  for (double power = std::floor(axes.y_low); power <= axes.y_high; ++power)
    for (const double digit : {1.0, 2.0, 5.0}) {
      const double value = digit * std::pow(10.0, power), at = std::log10(value);
      // All three of a decade where there are few decades.
      if (at >= axes.y_low && at <= axes.y_high && (digit == 1.0 || axes.y_high - axes.y_low < 2))
        ticks.push_back(value);
    }
  return ticks;
}

double distance_of(const std::vector<double>& ticks, size_t i) {
  if (ticks.size() < 2) return 0;
  return i + 1 < ticks.size() ? ticks[i + 1] - ticks[i] : ticks[i] - ticks[i - 1];
}

class Drawing {
 public:
  Drawing(const std::vector<LogSeries>& series, const CurveOptions& options)
      : series_(series),
        options_(options),
        scale_(std::max(0.6, static_cast<double>(options.width) / 960)),
        canvas_(options.width, options.height, kPaper) {
    axes_.log_y = options.log_y;
    set_ranges(series, axes_);
  }

  Image draw() {
    layout();
    grid();
    std::vector<std::vector<double>> means;
    for (const LogSeries& s : series_) means.push_back(smoothed(s.values, options_.smoothing));
    const bool smooth = options_.smoothing > 0;
    const Area clip = {axes_.plot.left, axes_.plot.top, axes_.plot.right + 2 * scale_, axes_.plot.bottom + scale_};
    for (size_t i = 0; smooth && i < series_.size(); ++i)
      canvas_.line(thinned(series_[i], series_[i].values, axes_), scale_, colour(i), 0.22, clip);
    for (size_t i = 0; i < series_.size(); ++i)
      canvas_.line(thinned(series_[i], means[i], axes_), 2.2 * scale_, colour(i), 1, clip);
    legend(means);
    return canvas_.take();
  }

 private:
  static const Colour& colour(size_t i) { return kColours[i % kColours.size()]; }
  int64_t size(double points) const { return std::llround(points * scale_); }

  void layout() {
    const std::vector<double> ticks = y_ticks(axes_);
    int64_t widest = 0;
    for (size_t i = 0; i < ticks.size(); ++i)
      widest = std::max(widest, canvas_.text_width(tick_text(ticks[i], distance_of(ticks, i)), size(14)));
    const double title = options_.title.empty() ? 0 : 30 * scale_;
    axes_.plot = {static_cast<double>(widest) + 28 * scale_, title + 58 * scale_,
                  static_cast<double>(options_.width) - 30 * scale_,
                  static_cast<double>(options_.height) - 52 * scale_};
  }

  void grid() {
    const Area& plot = axes_.plot;
    const double hair = std::max(1.0, std::round(scale_));
    const std::vector<double> ys = y_ticks(axes_);
    for (size_t i = 0; i < ys.size(); ++i) {
      const double y = std::round(axes_.y(ys[i]));
      canvas_.rectangle({plot.left, y, plot.right, y + hair}, kGrid);
      canvas_.text(tick_text(ys[i], distance_of(ys, i)), plot.left - 9 * scale_, y, size(14), kInk, Align::kRight);
    }
    canvas_.rectangle({plot.left, plot.bottom, plot.right, plot.bottom + hair}, kAxis);
    for (const double step : nice_ticks(axes_.x_low, axes_.x_high, 8)) {
      const double x = std::round(axes_.x(step));
      canvas_.rectangle({x, plot.bottom, x + hair, plot.bottom + 5 * scale_}, kAxis);
      canvas_.text(step < 10000 ? fmt::format("{:g}", step) : short_count(step), x, plot.bottom + 17 * scale_, size(14),
                   kInk, Align::kCentre);
    }
    canvas_.text(options_.x_label, plot.right, plot.bottom + 38 * scale_, size(14), kInk, Align::kRight);
    if (!options_.title.empty()) canvas_.text(options_.title, 20 * scale_, 26 * scale_, size(20), kTitle, Align::kLeft);
  }

  // Name and last mean of each series in a row above the plot, after the name of the value axis.
  void legend(const std::vector<std::vector<double>>& means) {
    const double y = axes_.plot.top - 28 * scale_;
    double x = 20 * scale_;
    if (!options_.y_label.empty())
      x += static_cast<double>(canvas_.text(options_.y_label, x, y, size(14), kInk, Align::kLeft)) + 26 * scale_;
    for (size_t i = 0; i < series_.size(); ++i) {
      const std::string last = means[i].empty() ? "no values" : fmt::format("{:.4g}", means[i].back());
      const std::string text = series_[i].name.empty() ? last : series_[i].name + "  " + last;
      const std::array<Point, 2> swatch = {Point{x, y}, Point{x + 22 * scale_, y}};
      const double end = x + 30 * scale_ + static_cast<double>(canvas_.text_width(text, size(14)));
      if (i > 0 && end > static_cast<double>(options_.width)) return;
      canvas_.line(swatch, 3 * scale_, colour(i), 1,
                   {0, 0, static_cast<double>(options_.width), static_cast<double>(options_.height)});
      canvas_.text(text, x + 30 * scale_, y, size(14), kInk, Align::kLeft);
      x = end + 26 * scale_;
    }
  }

  const std::vector<LogSeries>& series_;
  const CurveOptions& options_;
  const double scale_;
  Canvas canvas_;
  Axes axes_;
};

}  // namespace

std::vector<double> smoothed(std::span<const double> values, double weight) {
  std::vector<double> out;
  double sum = 0, weights = 0;
  for (const double value : values) {
    sum = weight * sum + value;
    weights = weight * weights + 1;
    out.push_back(sum / weights);
  }
  return out;
}

std::vector<double> nice_ticks(double low, double high, int count) {
  if (!(high > low) || !std::isfinite(high - low) || count < 1) return {};
  const double rough = (high - low) / count, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double digit = rough / power;
  const double step = power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
  std::vector<double> ticks;
  // By counting: a sum of steps would drift away from round numbers.
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step && ticks.size() < 100; ++i)
    ticks.push_back(i * step + 0.0);  // a 0 without a sign
  return ticks;
}

std::string tick_text(double value, double step) {
  const double size = std::max(std::abs(value), step);
  if (value != 0 && (size >= 1e6 || size < 1e-4)) return fmt::format("{:.1e}", value);
  const int decimals = step > 0 ? std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 8) : 2;
  return fmt::format("{:.{}f}", value == 0 ? 0.0 : value, decimals);
}

Image draw_curves(std::span<const LogSeries> series, const CurveOptions& options) {
  constexpr int64_t kMost = 8192;
  if (options.width < 200 || options.height < 150 || options.width > kMost || options.height > kMost)
    fail(ErrorCode::kInvalidArgument, "a picture of {} x {} pixels, expected 200 x 150 to {} x {}", options.width,
         options.height, kMost, kMost);
  if (!(options.smoothing >= 0 && options.smoothing < 1))
    fail(ErrorCode::kInvalidArgument, "smoothing {}, expected at least 0 and below 1", options.smoothing);
  std::vector<LogSeries> shown;
  size_t values = 0;
  for (const LogSeries& s : series) {
    shown.push_back(usable(s, options.log_y));
    values += shown.back().values.size();
  }
  if (values == 0) fail(ErrorCode::kInvalidArgument, "there is nothing to draw: no value in {} series", series.size());
  return Drawing(shown, options).draw();
}

void save_curves(std::span<const std::filesystem::path> logs, const std::string& key,
                 const std::filesystem::path& picture, const CurveOptions& options) {
  std::vector<LogSeries> series;
  for (const std::filesystem::path& log : logs) {
    const std::filesystem::path folder = std::filesystem::absolute(log).parent_path();
    series.push_back(read_log(log, key, folder.filename().string()));
  }
  save_image(picture, draw_curves(series, options));
}

}  // namespace vl2::train
