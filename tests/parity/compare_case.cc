#include "parity/compare_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <regex>

#include "engine/model/trace_case.h"

namespace vl2::parity {
namespace {

constexpr double kNearTieOfExperts = 2e-5;
constexpr double kNearTieOfTokens = 2e-3;

struct StageClass {
  const char* pattern;
  double tolerance;
};
// First match wins.
constexpr StageClass kStageClasses[] = {
    {"vision.", 5e-5},
    {"projector.", 5e-5},
    {"inputs_embeds", 5e-5},
    {"layer.#.cache", 1e-4},
    {"layer.#.", 5e-5},
    {"hidden.", 4e-4},
    {"gate.#.topk_weight", 6e-5},
    {"gate.#.scores", kNearTieOfExperts},  // or the rule about expert choices could not hold
    {"gate.#.gap", kNearTieOfExperts},
    {"logits", 6e-4},
    {"gen.logits", 6e-4},
    {"incremental.first_logits", 6e-4},
    {"gen.margin", 1.2e-3},  // difference of two logits
    {"gen_rp1.1.margin", 1.2e-3},
};

bool is_input(const std::string& name) {
  static const std::vector<std::string> kInputs = {"input_ids",           "images_seq_mask", "attention_mask",
                                                   "images_spatial_crop", "tile_ids",        "rows",
                                                   "logits_rows",         "vision.rows",     "incremental.chunk_size"};
  return std::find(kInputs.begin(), kInputs.end(), name) != kInputs.end();
}

std::string without_numbers(const std::string& name) {
  if (name.starts_with("gen")) return name;  // "gen_rp1.1" is no layer
  return std::regex_replace(name, std::regex("\\.[0-9]+(?=\\.|$)"), ".#");
}

int64_t number_in(const std::string& name) {
  std::smatch match;
  return std::regex_search(name, match, std::regex("\\.([0-9]+)")) ? std::stoll(match[1]) : 0;
}

// How deep in the decoder a tensor stands: layer i's router has depth 2 i + 1, what it decides 2 i + 2 and more.
int64_t depth_of(const std::string& name) {
  if (name.starts_with("hidden.")) return 2 * number_in(name);
  if (name.ends_with("mlp_out")) return 2 * number_in(name) + 2;
  if (name.starts_with("layer.") || name.starts_with("gate.")) return 2 * number_in(name) + 1;
  if (name.ends_with("logits")) return std::numeric_limits<int64_t>::max();
  return 0;
}

std::vector<int64_t> to_integers(const TensorView& tensor) {
  std::vector<int64_t> result(static_cast<size_t>(tensor.size()));
  for (size_t i = 0; i < result.size(); ++i)
    result[i] = tensor.dtype == DType::kI32 ? tensor.as<int32_t>()[i] : tensor.as<int64_t>()[i];
  return result;
}

class Comparer {
 public:
  Comparer(const DeepseekVl2& model, const SafetensorsFile& golden, const SafetensorsFile* tiles)
      : model_(model), golden_(golden), case_(read_trace_case(golden, tiles, model.config())) {
    // Two recordings of one run: bf16 weights in fp32 arithmetic, which is ours, and in bf16, which nobody has to meet.
    if (golden.find("fp32compute.logits") != nullptr) prefix_ = "fp32compute.";
  }

  CaseReport run() {
    TraceOptions options;
    options.layer_details = find("layer.0.input_norm") != nullptr;
    for (const char* prefix : {"gen", "gen_rp1.1"})
      if (const auto generation = golden_generation(prefix)) options.generations.push_back(*generation);
    if (const TensorView* chunk = find("incremental.chunk_size")) options.incremental_chunk = to_integers(*chunk)[0];
    if (const TensorView* tokens = find("incremental.gen_tokens")) options.incremental_steps = tokens->shape[1];
    results_ = run_trace_case(model_, case_, options);

    for (const auto& [name, tensor] : golden_.tensors())
      if (own(name).starts_with("gate.") && name.ends_with("topk_idx")) compare_experts(own(name), tensor);
    for (const auto& [name, tensor] : golden_.tensors()) {
      if (is_input(name) || !name.starts_with(prefix_) || name.ends_with("topk_idx")) continue;
      if (name.ends_with("tokens")) {
        compare_tokens(own(name), tensor);
      } else if (!name.ends_with(".margin") && !name.ends_with("gen.logits")) {
        compare_values(own(name), tensor, result(own(name)));
      }
    }
    for (auto& [stage, error] : stages_) report_.stages.push_back(error);
    return report_;
  }

 private:
  // A golden name without the recording's prefix.
  std::string own(const std::string& name) const {
    return name.starts_with(prefix_) ? name.substr(prefix_.size()) : name;
  }
  const TensorView* find(const std::string& name) const { return golden_.find(prefix_ + name); }

  const TraceTensor* result(const std::string& name) const {
    for (const TraceTensor& t : results_)
      if (t.name == name) return &t;
    return nullptr;
  }

  std::optional<TraceGeneration> golden_generation(const std::string& prefix) const {
    const TensorView* tokens = find(prefix + ".tokens");
    if (tokens == nullptr) return std::nullopt;
    TraceGeneration generation;
    generation.prefix = prefix;
    generation.steps = tokens->shape[1];
    generation.repetition_penalty = prefix == "gen" ? 1.0f : 1.1f;
    return generation;
  }

  // Rows of [.., R, ..] that the golden file kept, or all.
  std::vector<int64_t> kept_rows(const std::string& name, int64_t golden_rows, int64_t all_rows) {
    if (golden_rows != all_rows) {
      const TensorView* rows = golden_.find(name.starts_with("vision.") ? "vision.rows" : "rows");
      if (const TensorView* own_rows = golden_.find("logits_rows"); name == "logits" && own_rows != nullptr)
        rows = own_rows;
      if (rows != nullptr && rows->size() == golden_rows) return to_integers(*rows);
      report_.failures.push_back(fmt::format("{}: {} rows, computed {}", name, golden_rows, all_rows));
      return {};
    }
    std::vector<int64_t> all(static_cast<size_t>(all_rows));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    return all;
  }

  bool is_padding(int64_t b, int64_t t) const {
    return case_.attention_mask[static_cast<size_t>(b * case_.length + t)] == 0;
  }

  // Nothing to compare: padding, or behind an expert choice that legitimately fell differently.
  bool skip_row(int64_t b, int64_t t, int64_t depth) {
    if (is_padding(b, t)) return true;
    for (const Divergence& d : divergences_) {
      if (d.sample == b && t >= d.row && depth > d.depth) {
        ++report_.rows_behind_ties;
        return true;
      }
    }
    return false;
  }

  StageError& stage_of(const std::string& name) {
    const std::string stage = without_numbers(name);
    StageError& error = stages_[stage];
    if (error.stage.empty()) {
      error.stage = stage;
      const auto* known = std::find_if(std::begin(kStageClasses), std::end(kStageClasses),
                                       [&](const StageClass& c) { return stage.starts_with(c.pattern); });
      VL2_CHECK(known != std::end(kStageClasses), "no tolerance for {}", name);
      error.tolerance = known->tolerance;
    }
    return error;
  }

  template <typename Where>
  void compare_row(StageError& stage, const Where& where, const float* expected, const float* actual, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      double error = std::abs(static_cast<double>(actual[i]) - static_cast<double>(expected[i]));
      if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
      if (error > stage.max_error || stage.values == 0) {
        stage.max_error = error;
        stage.worst = fmt::format("{} [{}]: {} instead of {}", where(), i, actual[i], expected[i]);
      }
      ++stage.values;
    }
  }

  void compare_values(const std::string& name, const TensorView& golden, const TraceTensor* computed) {
    if (computed == nullptr || computed->shape.size() != golden.shape.size()) {
      report_.failures.push_back(fmt::format("{} was not computed in the shape {}", name, shape_string(golden.shape)));
      return;
    }
    const std::vector<float> expected = to_floats(golden), actual = to_floats(computed->view());
    StageError& stage = stage_of(name);
    const int64_t depth = depth_of(name);
    const Shape& shape = computed->shape;
    // Sequence tensors have rows (sample, t); the others are compared in whole.
    const bool by_sequence_row = shape.size() == 3 && shape[0] == case_.batch && shape[1] == case_.length;
    const bool by_flat_row = name.starts_with("gate.");
    if (by_flat_row) {
      const int64_t width = num_elements(shape) / shape[0];
      if (golden.shape != shape) return report_.failures.push_back(name + ": wrong shape");
      for (int64_t r = 0; r < shape[0]; ++r) {
        const int64_t b = r / case_.length, t = r % case_.length;
        if (skip_row(b, t, depth)) continue;
        if (name.ends_with("topk_weight") && experts_differ(number_in(name), r)) continue;
        compare_row(
            stage, [&] { return fmt::format("{} [{}]", name, r); }, &expected[static_cast<size_t>(r * width)],
            &actual[static_cast<size_t>(r * width)], width);
      }
      return;
    }
    if (shape.size() != 3) {
      if (golden.shape != shape) return report_.failures.push_back(name + ": wrong shape");
      compare_row(
          stage, [&] { return name; }, expected.data(), actual.data(), golden.size());
      return;
    }
    const std::vector<int64_t> rows = kept_rows(name, golden.shape[1], shape[1]);
    if (golden.shape[0] != shape[0] || golden.shape[2] != shape[2])
      return report_.failures.push_back(name + ": wrong shape");
    for (int64_t b = 0; b < shape[0]; ++b) {
      for (size_t r = 0; r < rows.size(); ++r) {
        if (by_sequence_row && skip_row(b, rows[r], depth)) continue;
        const auto from = static_cast<size_t>((b * golden.shape[1] + static_cast<int64_t>(r)) * shape[2]);
        const auto to = static_cast<size_t>((b * shape[1] + rows[r]) * shape[2]);
        compare_row(
            stage, [&] { return fmt::format("{} [{}, {}]", name, b, rows[r]); }, &expected[from], &actual[to],
            shape[2]);
      }
    }
  }

  bool experts_differ(int64_t layer, int64_t flat_row) const {
    const auto found = different_experts_.find(layer);
    return found != different_experts_.end() &&
           std::find(found->second.begin(), found->second.end(), flat_row) != found->second.end();
  }

  // Called in the order of the layers' names: one layer's divergence excuses what stands behind it.
  void compare_experts(const std::string& name, const TensorView& golden) {
    const TraceTensor* computed = result(name);
    const int64_t layer = number_in(name);
    if (computed == nullptr || computed->shape != golden.shape)
      return report_.failures.push_back(fmt::format("{} was not computed", name));
    const std::vector<float> gaps = to_floats(*find(fmt::format("gate.{}.gap", layer)));
    const std::vector<int64_t> expected = to_integers(golden), actual = to_integers(computed->view());
    const int64_t k = golden.shape[1], depth = depth_of(name);
    std::vector<Divergence> found;
    for (int64_t r = 0; r < golden.shape[0]; ++r) {
      const int64_t b = r / case_.length, t = r % case_.length;
      if (skip_row(b, t, depth)) continue;
      if (std::equal(expected.begin() + r * k, expected.begin() + (r + 1) * k, actual.begin() + r * k)) continue;
      if (static_cast<double>(gaps[static_cast<size_t>(r)]) > kNearTieOfExperts)
        report_.failures.push_back(
            fmt::format("{} [{}]: other experts, though the gap is {}", name, r, gaps[static_cast<size_t>(r)]));
      found.push_back({b, t, depth});
      different_experts_[layer].push_back(r);
    }
    divergences_.insert(divergences_.end(), found.begin(), found.end());
  }

  // Free-running generation as long as no step is a near tie, teacher-forced once one fell differently.
  void compare_tokens(const std::string& name, const TensorView& golden) {
    const std::vector<int64_t> expected = to_integers(golden);
    const TraceTensor* computed = result(name);
    if (computed == nullptr || computed->shape != golden.shape)
      return report_.failures.push_back(fmt::format("{} was not computed", name));
    if (!divergences_.empty()) return;  // counted in rows_behind_ties
    std::vector<int64_t> actual = to_integers(computed->view());
    const std::string prefix = name.substr(0, name.rfind('.'));
    if (name.ends_with("gen_tokens")) {  // incremental: no margins of its own, and those of gen are the same
      if (actual != expected) report_.failures.push_back(name + " differ");
      return;
    }
    const std::vector<float> margins = to_floats(*find(prefix + ".margin"));
    const int64_t steps = golden.shape[1];
    const auto check = [&](int64_t b, int64_t n) {
      const auto at = static_cast<size_t>(b * steps + n);
      if (actual[at] != expected[at] && static_cast<double>(margins[at]) > kNearTieOfTokens)
        report_.failures.push_back(fmt::format("{} [{}, {}]: {} instead of {}, though the margin is {}", name, b, n,
                                               actual[at], expected[at], margins[at]));
    };
    for (int64_t b = 0; b < golden.shape[0]; ++b) {
      int64_t n = 0;
      while (n < steps && actual[static_cast<size_t>(b * steps + n)] == expected[static_cast<size_t>(b * steps + n)])
        ++n;
      if (n < steps) check(b, n);
    }
    const TraceTensor* margin = result(prefix + ".margin");
    const TraceTensor* logits = result(prefix + ".logits");
    std::vector<TraceTensor> forced;
    if (actual != expected) {
      TraceOptions options;
      options.layer_details = false;
      options.generations = {*golden_generation(prefix)};
      options.generations[0].teacher = expected;
      forced = run_trace_case(model_, case_, options);
      logits = &forced[forced.size() - 1];
      margin = &forced[forced.size() - 2];
      actual = to_integers(forced[forced.size() - 3].view());
      for (int64_t b = 0; b < golden.shape[0]; ++b)
        for (int64_t n = 0; n < steps; ++n) check(b, n);
      report_.forced_steps += golden.size();
    }
    const std::vector<float> actual_margins = to_floats(margin->view());
    // Where the choice itself is the other one, the margin is measured from the other side.
    for (size_t i = 0; i < margins.size(); ++i)
      if (actual[i] == expected[i])
        compare_row(
            stage_of(prefix + ".margin"), [&] { return fmt::format("{}.margin step {}", prefix, i); }, &margins[i],
            &actual_margins[i], 1);
    if (const TensorView* golden_logits = find(prefix + ".logits"))
      compare_values(prefix + ".logits", *golden_logits, logits);
  }

  struct Divergence {
    int64_t sample, row, depth;
  };

  const DeepseekVl2& model_;
  const SafetensorsFile& golden_;
  TraceCase case_;
  std::string prefix_;
  std::vector<TraceTensor> results_;
  std::map<std::string, StageError> stages_;
  std::vector<Divergence> divergences_;
  std::map<int64_t, std::vector<int64_t>> different_experts_;  // by layer: flat rows
  CaseReport report_;
};

}  // namespace

bool CaseReport::passed() const {
  return failures.empty() && !stages.empty() &&
         std::all_of(stages.begin(), stages.end(), [](const StageError& s) { return s.max_error <= s.tolerance; });
}

CaseReport compare_case(const DeepseekVl2& model, const SafetensorsFile& golden, const SafetensorsFile* tiles) {
  return Comparer(model, golden, tiles).run();
}

LogitsNoise logits_noise(const DeepseekVl2& model, const SafetensorsFile& golden, const SafetensorsFile* tiles) {
  const TensorView* expected = golden.find("fp32compute.logits");
  if (expected == nullptr) expected = &golden.at("logits");
  TraceOptions options;
  options.layer_details = false;
  const std::vector<TraceTensor> results =
      run_trace_case(model, read_trace_case(golden, tiles, model.config()), options);
  const auto computed =
      std::find_if(results.begin(), results.end(), [](const TraceTensor& t) { return t.name == "logits"; });
  VL2_CHECK(computed != results.end() && computed->shape[0] == 1 && expected->shape[0] == 1);
  std::vector<int64_t> rows;
  if (expected->shape[1] == computed->shape[1]) {
    for (int64_t r = 0; r < expected->shape[1]; ++r) rows.push_back(r);
  } else {
    rows = to_integers(golden.at(golden.find("logits_rows") != nullptr ? "logits_rows" : "rows"));
  }
  const std::vector<float> want = to_floats(*expected), have = to_floats(computed->view());
  const int64_t vocab = expected->shape[2];
  LogitsNoise noise;
  noise.rows = static_cast<int64_t>(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const float* w = want.data() + static_cast<int64_t>(i) * vocab;
    const float* h = have.data() + rows[i] * vocab;
    for (int64_t v = 0; v < vocab; ++v) {
      const double error = static_cast<double>(h[v]) - static_cast<double>(w[v]);
      noise.rms += error * error;
      noise.max = std::max(noise.max, std::abs(error));
      noise.golden_rms += static_cast<double>(w[v]) * static_cast<double>(w[v]);
    }
    noise.agreement += std::max_element(w, w + vocab) - w == std::max_element(h, h + vocab) - h ? 1.0 : 0.0;
  }
  const auto n = static_cast<double>(rows.size());
  noise.rms = std::sqrt(noise.rms / (n * static_cast<double>(vocab)));
  noise.golden_rms = std::sqrt(noise.golden_rms / (n * static_cast<double>(vocab)));
  noise.agreement /= n;
  return noise;
}

std::string report_table(const std::string& model, const std::string& name, const CaseReport& report) {
  std::string text;
  for (const StageError& s : report.stages)
    text += fmt::format("{:18} {:6} {:26} {:>10.2e} {:>9.1e} {:>9} {}\n", model, name, s.stage, s.max_error,
                        s.tolerance, s.values, s.max_error <= s.tolerance ? "ok" : "FAILED: " + s.worst);
  if (report.forced_steps > 0)
    text += fmt::format("{:18} {:6} {} generation steps by teacher forcing\n", model, name, report.forced_steps);
  if (report.rows_behind_ties > 0)
    text += fmt::format("{:18} {:6} {} rows behind near ties of experts not compared\n", model, name,
                        report.rows_behind_ties);
  for (const std::string& failure : report.failures)
    text += fmt::format("{:18} {:6} FAILED: {}\n", model, name, failure);
  return text;
}

}  // namespace vl2::parity
