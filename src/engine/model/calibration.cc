#include "engine/model/calibration.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <utility>

namespace vl2 {
namespace {

constexpr int64_t kChunk = 256;
// An expert's own rows count as much as its layer's mean where it met so many.
constexpr double kPriorRows = 32;
// So that a column that was always zero still counts a little: other pictures may use it.
constexpr double kFloor = 1e-3;

// "language.model.layers.3.mlp.experts.17.gate_proj.weight" -> the same with a star; "": no routed expert.
std::string all_experts(const std::string& tensor) {
  static constexpr std::string_view kExperts = ".mlp.experts.";
  const size_t at = tensor.find(kExperts);
  if (at == tensor.npos) return "";
  const size_t number = at + kExperts.size();
  return tensor.substr(0, number) + "*" + tensor.substr(tensor.find('.', number));
}

}  // namespace

void InputSquares::watch(const std::string& tensor, const Weight& matrix) {
  Sum& sum = sums_[tensor];
  sum.squares.assign(static_cast<size_t>(matrix.in), 0.0);
  by_storage_[matrix.storage.get()] = &sum;
}

void InputSquares::input(const Weight& matrix, Tensor x) {
  const auto found = by_storage_.find(matrix.storage.get());
  if (found == by_storage_.end()) return;
  Sum& sum = *found->second;
  for (int64_t r = 0; r < x.rows; ++r) {
    const float* row = x.row(r);
    for (int64_t c = 0; c < x.cols; ++c) sum.squares[static_cast<size_t>(c)] += double{row[c]} * double{row[c]};
  }
  sum.rows += static_cast<double>(x.rows);
}

std::map<std::string, std::vector<float>> InputSquares::importance() const {
  std::map<std::string, Sum> layers;
  for (const auto& [tensor, sum] : sums_) {
    const std::string all = all_experts(tensor);
    if (all.empty()) continue;
    Sum& layer = layers[all];
    layer.squares.resize(sum.squares.size());
    for (size_t c = 0; c < sum.squares.size(); ++c) layer.squares[c] += sum.squares[c];
    layer.rows += sum.rows;
  }
  for (auto& [tensor, layer] : layers) {
    if (!tensor.ends_with(".down_proj.weight")) continue;
    const double total = std::accumulate(layer.squares.begin(), layer.squares.end(), 0.0);
    std::fill(layer.squares.begin(), layer.squares.end(), total / static_cast<double>(layer.squares.size()));
  }
  std::map<std::string, std::vector<float>> importance;
  for (const auto& [tensor, sum] : sums_) {
    std::vector<double> mean = sum.squares;
    double rows = sum.rows;
    const auto layer = layers.find(all_experts(tensor));
    if (layer != layers.end() && layer->second.rows > 0) {
      rows += kPriorRows;
      for (size_t c = 0; c < mean.size(); ++c) mean[c] += kPriorRows * layer->second.squares[c] / layer->second.rows;
    }
    const double average = std::accumulate(mean.begin(), mean.end(), 0.0) / static_cast<double>(mean.size());
    if (rows == 0 || !(average > 0)) continue;  // nothing is known: every column weighs the same
    std::vector<float>& result = importance[tensor];
    // The root: by the square itself the KL of nano's answers was higher (docs/quantized_format.md, Calibration).
    for (const double x : mean) result.push_back(static_cast<float>(std::sqrt((x + kFloor * average) / rows)));
  }
  return importance;
}

MatrixBound Calibration::watch(const ModelConfig& config, ModelFormat format) {
  std::set<std::string> wanted;
  for (const WeightSpec& spec : weight_schema(config))
    if (panel_format_of(format, spec, config) == PanelFormat::kQ4) wanted.insert(spec.name);
  return [this, wanted = std::move(wanted)](const std::string& tensor, const Weight& matrix) {
    if (wanted.contains(tensor)) squares_.watch(tensor, matrix);
  };
}

Calibration::Calibration(const ModelConfig& config, ModelFormat format, Ops& ops, WeightSource& source,
                         const BindProgress& progress)
    : ops_(ops), model_(config, ops, source, progress, watch(config, format)) {
  ops_.set_input_tap(&squares_);
}

Calibration::~Calibration() { ops_.set_input_tap(nullptr); }

void Calibration::run(SequenceInput conversation, const std::function<bool()>& cancelled) {
  const std::vector<bool> is_image = conversation.is_image;
  const auto length = static_cast<int64_t>(is_image.size());
  SequenceRunner sequence(model_, {std::move(conversation)}, 0);
  // Text and pictures in turns: nobody asks for the logits behind a picture's rows.
  for (int64_t begin = 0; begin < length;) {
    if (cancelled && cancelled()) fail(ErrorCode::kCancelled, "stopped; nothing was written");
    int64_t end = begin + 1;
    const bool image = is_image[static_cast<size_t>(begin)];
    while (end < length && end - begin < kChunk && is_image[static_cast<size_t>(end)] == image) ++end;
    const SequenceRunner::Part part{0, end - begin};
    sequence.step({&part, 1}, image ? SequenceRunner::Logits::kNone : SequenceRunner::Logits::kAll);
    begin = end;
  }
}

}  // namespace vl2
