// T: tokens, D: hidden size, P: patches, W: vision width.
#include "parity/fullwidth.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <type_traits>

#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/thread_pool.h"
#include "core/checkpoint/safetensors.h"
#include "engine/model/attention.h"
#include "engine/model/moe.h"
#include "engine/model/projector.h"
#include "engine/model/vision_encoder.h"

namespace vl2::parity {
namespace {

constexpr double kTolerance = 5e-5;
constexpr double kRotatedKeyTolerance = 3e-4;

// fullwidth.json's formula. Names are given without "open.<module>.".
class Formula {
 public:
  Formula(Ops& ops, DType storage, const nlohmann::json& specs, std::string module)
      : ops_(ops), storage_(storage), specs_(specs), prefix_("open." + module + ".") {}

  std::vector<float> values(const std::string& name) const { return values(name, spec(name)); }
  Shape shape(const std::string& name) const { return spec(name)["shape"].get<Shape>(); }

  Weight matrix(const std::string& name, WeightUse use = WeightUse::kLinear, Shape read_as = {}) const {
    return packed(name, read_as.empty() ? shape(name) : read_as,
                  [&](const TensorView& view) { return ops_.pack(view, use); });
  }
  Weight vector(const std::string& name) const {
    return packed(name, shape(name), [&](const TensorView& view) { return ops_.pack(view, WeightUse::kVector); });
  }
  Linear linear(const std::string& name, bool bias) const {
    return {matrix(name + ".weight"), bias ? vector(name + ".bias") : Weight{}};
  }
  GatedMlp gated_mlp(const std::string& name) const {
    return {linear(name + ".gate_proj", false), linear(name + ".up_proj", false), linear(name + ".down_proj", false)};
  }
  template <typename Pack>
  std::invoke_result_t<Pack, const TensorView&> packed(const std::string& name, const Shape& read_as,
                                                       const Pack& pack) const {
    const std::vector<float> floats = values(name);
    if (storage_ == DType::kF32)
      return pack(TensorView{reinterpret_cast<const std::byte*>(floats.data()), DType::kF32, read_as});
    VL2_CHECK(spec(name)["bf16_round"].get<bool>(), "{} is no bf16 tensor", name);
    std::vector<BF16> narrow(floats.size());
    std::transform(floats.begin(), floats.end(), narrow.begin(), [](float x) { return to_bf16(x); });
    return pack(TensorView{reinterpret_cast<const std::byte*>(narrow.data()), DType::kBF16, read_as});
  }

 private:
  // Every expert is made like the first one, with its own name.
  const nlohmann::json& spec(const std::string& name) const {
    std::string like = prefix_ + name;
    if (name.starts_with("experts.")) like = prefix_ + "experts.0" + name.substr(name.find('.', 8));
    VL2_CHECK(specs_.contains(like), "no tensor {} in fullwidth.json", like);
    return specs_[like];
  }

  std::vector<float> values(const std::string& name, const nlohmann::json& spec) const {
    const uint64_t start = fnv1a64(prefix_ + name);
    const double a = spec["a"], mean = spec["mean"];
    const bool round = spec["bf16_round"];
    std::vector<float> result(static_cast<size_t>(num_elements(spec["shape"].get<Shape>())));
    constexpr int64_t kPiece = 1 << 16;
    const auto size = static_cast<int64_t>(result.size());
    pool_.parallel_for((size + kPiece - 1) / kPiece, [&](int64_t piece, int) {
      for (int64_t i = piece * kPiece; i < std::min(size, (piece + 1) * kPiece); ++i) {
        const double u = static_cast<double>(splitmix64(start + static_cast<uint64_t>(i)) >> 40) * 0x1.0p-24;
        const auto value = static_cast<float>(mean + a * (2 * u - 1));
        result[static_cast<size_t>(i)] = round ? to_float(to_bf16(value)) : value;
      }
    });
    return result;
  }

  Ops& ops_;
  DType storage_;
  const nlohmann::json& specs_;
  std::string prefix_;
  mutable ThreadPool pool_{ThreadPool::default_num_threads()};
};

// Keeps the stages somebody asked for.
class Keeper : public StageTap {
 public:
  void stage(const std::string& name, Tensor values) override {
    std::vector<float>& kept = stages[name];
    kept.clear();
    for (int64_t r = 0; r < values.rows; ++r)
      for (int64_t h = 0; h < values.heads; ++h)
        kept.insert(kept.end(), values.at(r, h), values.at(r, h) + values.cols);
  }
  void routing(int64_t, const Routing& r) override {
    expert.assign(r.expert.begin(), r.expert.end());
    weight.assign(r.weight.begin(), r.weight.end());
    scores.assign(r.scores.begin(), r.scores.end());
  }

  std::map<std::string, std::vector<float>> stages;
  std::vector<int32_t> expert;
  std::vector<float> weight, scores;
};

class Runner {
 public:
  Runner(Ops& ops, DType storage, const std::filesystem::path& folder, const std::string& module)
      : ops_(ops),
        json_(nlohmann::json::parse(read_file(folder / "fullwidth.json"))),
        samples_(folder / "samples.safetensors"),
        module_(module),
        formula_(ops, storage, json_["tensors"], module) {}

  CaseReport run() {
    Workspace::Scope scope(ops_.workspace());
    check_formula();
    if (module_ == "siglip_block")
      siglip_block();
    else if (module_ == "patch_embed")
      patch_embed();
    else if (module_ == "projector")
      run_projector();
    else if (module_ == "mla_small")
      mla();
    else if (module_ == "mha_tiny")
      mha();
    else if (module_.starts_with("moe_"))
      moe();
    else
      fail(ErrorCode::kInvalidArgument, "no module {}", module_);
    return report_;
  }

 private:
  void check_formula() {
    for (const auto& [name, expected] : json_["check"].items()) {
      if (!name.starts_with("open." + module_ + ".")) continue;
      const std::vector<float> values = formula_.values(name.substr(6 + module_.size()));
      for (size_t i = 0; i < expected.size(); ++i)
        if (values[i] != expected[i].get<float>())
          report_.failures.push_back(name + ": the formula gives other values");
    }
  }

  void compare(const std::string& output, std::span<const float> actual, double tolerance = kTolerance) {
    const std::string key = module_ + "." + output;
    const nlohmann::json& about = json_["outputs"][key];
    const Shape shape = about["shape"];
    if (num_elements(shape) != static_cast<int64_t>(actual.size()))
      return report_.failures.push_back(fmt::format("{}: {} values for {}", key, actual.size(), shape_string(shape)));
    const int64_t row_stride = about["row_stride"], col_stride = about["col_stride"];
    const TensorView& golden = samples_.at(key + ".f64");
    StageError stage{output, 0, tolerance, golden.size(), ""};
    for (int64_t r = 0; r < golden.shape[0]; ++r)
      for (int64_t c = 0; c < golden.shape[1]; ++c) {
        const int64_t at = r * row_stride * shape[1] + c * col_stride;
        note(stage, actual[static_cast<size_t>(at)], golden.as<float>()[r * golden.shape[1] + c],
             fmt::format("{} [{}, {}]", key, r * row_stride, c * col_stride));
      }
    report_.stages.push_back(stage);
    double squares = 0, sizes = 0;
    for (float x : actual) {
      squares += static_cast<double>(x) * static_cast<double>(x);
      sizes += std::abs(static_cast<double>(x));
    }
    const auto n = static_cast<double>(actual.size());
    // Errors of at most the tolerance each move the norm by sqrt(n) times that, and the mean size by that.
    if (!(std::abs(std::sqrt(squares) - about["l2_norm"].get<double>()) <= tolerance * std::sqrt(n)) ||
        !(std::abs(sizes / n - about["abs_mean"].get<double>()) <= tolerance))
      report_.failures.push_back(fmt::format("{}: norm {} instead of {}, mean size {} instead of {}", key,
                                             std::sqrt(squares), about["l2_norm"].get<double>(), sizes / n,
                                             about["abs_mean"].get<double>()));
  }

  static void note(StageError& stage, float actual, float expected, const std::string& where) {
    double error = std::abs(static_cast<double>(actual) - static_cast<double>(expected));
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    if (error <= stage.max_error && !stage.worst.empty()) return;
    stage.max_error = error;
    stage.worst = fmt::format("{}: {} instead of {}", where, actual, expected);
  }

  Tensor activations(const std::vector<float>& values, int64_t rows) {
    Tensor x = ops_.workspace().tensor(rows, static_cast<int64_t>(values.size()) / rows);
    std::copy(values.begin(), values.end(), x.data);
    return x;
  }
  Tensor zeros(int64_t rows, int64_t cols) {
    Tensor x = ops_.workspace().tensor(rows, cols);
    std::fill_n(x.data, x.size(), 0.0f);
    return x;
  }
  std::span<const float> all(Tensor x) { return {x.data, static_cast<size_t>(x.size())}; }
  Weight zero_weight(const Shape& shape, WeightUse use) {
    const std::vector<float> values(static_cast<size_t>(num_elements(shape)), 0.0f);
    return ops_.pack({reinterpret_cast<const std::byte*>(values.data()), DType::kF32, shape}, use);
  }

  // The encoder has no way in but pixels: with a patch embedding of zeros, the position table is what the block sees.
  void siglip_block() {
    config_.vision.layers = 1;
    const VisionConfig& c = config_.vision;
    const int64_t patches = c.num_patches(), pixels = 3 * c.patch_size * c.patch_size;
    VisionWeights w;
    w.patch_embed = {zero_weight({c.width, pixels}, WeightUse::kLinear), {}};
    const std::vector<float> input = formula_.values("input");
    w.pos_embed = ops_.pack({reinterpret_cast<const std::byte*>(input.data()), DType::kF32, {patches, c.width}},
                            WeightUse::kLookup);
    w.blocks.push_back({{formula_.vector("norm1.weight"), formula_.vector("norm1.bias")},
                        {formula_.vector("norm2.weight"), formula_.vector("norm2.bias")},
                        formula_.linear("attn.qkv", true),
                        formula_.linear("attn.proj", true),
                        formula_.linear("mlp.fc1", true),
                        formula_.linear("mlp.fc2", true)});
    w.norm = {zero_weight({c.width}, WeightUse::kVector), zero_weight({c.width}, WeightUse::kVector)};
    encode(w, std::vector<float>(static_cast<size_t>(3 * c.image_size * c.image_size), 0.0f));
    compare("attn_out", keeper_.stages["vision.block0.attn_out"]);
    compare("out", keeper_.stages["vision.block.0"]);
  }

  void patch_embed() {
    config_.vision.layers = 0;
    const VisionConfig& c = config_.vision;
    VisionWeights w;
    w.patch_embed = {formula_.matrix("proj.weight", WeightUse::kLinear, {c.width, 3 * c.patch_size * c.patch_size}),
                     formula_.vector("proj.bias")};
    w.pos_embed = zero_weight({c.num_patches(), c.width}, WeightUse::kLookup);
    w.norm = {zero_weight({c.width}, WeightUse::kVector), zero_weight({c.width}, WeightUse::kVector)};
    encode(w, formula_.values("input"));
    compare("out", keeper_.stages["vision.patch_embed"]);
  }

  void encode(const VisionWeights& w, const std::vector<float>& pixels) {
    vision_encoder({ops_, config_, &keeper_}, w, pixels,
                   ops_.workspace().tensor(config_.vision.num_patches(), config_.vision.width));
  }

  void run_projector() {
    const int64_t hidden = formula_.shape("layers.2.weight")[0],
                  tokens = config_.tokens_per_side() * config_.tokens_per_side();
    ProjectorWeights w;
    w.layers = {formula_.linear("layers.0", true), formula_.linear("layers.2", true)};
    Tensor out = ops_.workspace().tensor(tokens, hidden);
    projector({ops_, config_, nullptr}, w, activations(formula_.values("input"), config_.vision.num_patches()), out);
    compare("out", all(out));
  }

  void mla() {
    config_ = preset_config("small");
    const LanguageConfig& c = config_.language;
    MlaWeights w;
    w.query = PlainQuery{formula_.linear("q_proj", false)};
    w.kv_a = formula_.linear("kv_a_proj_with_mqa", false);
    w.kv_a_norm = formula_.vector("kv_a_layernorm.weight");
    w.kv_b = formula_.packed("kv_b_proj.weight", formula_.shape("kv_b_proj.weight"), [&](const TensorView& view) {
      return ops_.pack_latent(view, c.num_attention_heads, c.qk_nope_head_dim, c.v_head_dim);
    });
    w.o = formula_.linear("o_proj", false);
    const std::vector<float> cached = attend(w);
    std::vector<float> latents, keys;
    const int64_t width = cache_width(c);
    for (size_t row = 0; row < cached.size(); row += static_cast<size_t>(width)) {
      const auto begin = cached.begin() + static_cast<int64_t>(row);
      latents.insert(latents.end(), begin, begin + c.kv_lora_rank);
      keys.insert(keys.end(), begin + c.kv_lora_rank, begin + width);
    }
    compare("cache0_k_pe", keys, kRotatedKeyTolerance);
    compare("cache1_compressed_kv", latents);
  }

  void mha() {
    config_ = preset_config("tiny");
    const std::vector<float> cached =
        attend(MhaWeights{formula_.linear("q_proj", false), formula_.linear("k_proj", false),
                          formula_.linear("v_proj", false), formula_.linear("o_proj", false)});
    std::vector<float> keys, values;
    const int64_t width = cache_width(config_.language);
    for (size_t row = 0; row < cached.size(); row += static_cast<size_t>(width)) {
      const auto begin = cached.begin() + static_cast<int64_t>(row);
      keys.insert(keys.end(), begin, begin + width / 2);
      values.insert(values.end(), begin + width / 2, begin + width);
    }
    compare("cache0_k", keys, kRotatedKeyTolerance);
    compare("cache1_v", values);
  }

  // Prefill of all rows but the last, then that one as a decode step. Returns the cached rows of the prefill.
  std::vector<float> attend(const std::variant<MhaWeights, MlaWeights>& weights) {
    constexpr int64_t kBlockTokens = 16;
    const LanguageConfig& c = config_.language;
    const int64_t total = formula_.shape("input")[1], prompt = total - 1;
    Tensor input = activations(formula_.values("input"), total);
    std::vector<int32_t> blocks;
    for (int64_t t = 0; t < total; t += kBlockTokens) blocks.push_back(static_cast<int32_t>(blocks.size()));
    const auto cache = ops_.make_cache(1, static_cast<int64_t>(blocks.size()), kBlockTokens, cache_width(c));
    const RopeAngles angles(c, rotary_dim(c));
    const auto step = [&](int64_t past, int64_t count, bool decode, const std::string& output) {
      Workspace::Scope scope(ops_.workspace());
      const SequenceSlice slice{0, count, past, blocks, decode};
      std::vector<int64_t> positions;
      for (int64_t t = past; t < past + count; ++t) positions.push_back(t);
      RotaryEmbedding rotary{ops_.workspace().tensor(count, rotary_dim(c) / 2),
                             ops_.workspace().tensor(count, rotary_dim(c) / 2),
                             static_cast<float>(angles.softmax_scale_factor())};
      angles.fill(positions, past + count, rotary.cos_TR, rotary.sin_TR);
      Tensor out = zeros(count, c.hidden_size);
      attention({ops_, config_, nullptr}, weights, input.row_range(past, count), out, {{&slice, 1}, {}}, rotary,
                {cache.get(), 0});
      compare(output, all(out));
    };
    step(0, prompt, false, "out");
    step(prompt, 1, true, "decode_out");
    std::vector<float> cached(static_cast<size_t>(prompt * cache->width()));
    for (int64_t t = 0; t < prompt; ++t) cache->read(0, blocks, t, cached.data() + t * cache->width());
    return cached;
  }

  void moe() {
    config_ = preset_config(module_.substr(4));
    const LanguageConfig& c = config_.language;
    const int64_t rows = formula_.shape("input")[1];
    Tensor input = activations(formula_.values("input"), rows);
    MoeWeights w;
    w.gate = formula_.matrix("gate.weight", WeightUse::kRouter);
    if (c.topk_method == TopkMethod::kNoauxTc) w.expert_bias = formula_.vector("gate.e_score_correction_bias");
    // Only experts that are chosen, by this backend or by the golden, are made; the others are never read.
    std::set<int32_t> wanted;
    const Routing routing = ops_.route(input, w.gate, w.expert_bias, router_params(c));
    wanted.insert(routing.expert.begin(), routing.expert.end());
    w.experts.experts.resize(static_cast<size_t>(*c.n_routed_experts));
    for (int32_t e : wanted)
      w.experts.experts[static_cast<size_t>(e)] = formula_.gated_mlp(fmt::format("experts.{}", e));
    if (!wanted.contains(0)) w.experts.experts[0] = w.experts.experts[static_cast<size_t>(*wanted.begin())];
    w.shared = formula_.gated_mlp("shared_experts");
    Tensor out = zeros(rows, c.hidden_size);
    feed_forward({ops_, config_, &keeper_}, w, input, out, 0);
    compare_routing(rows, c.num_experts_per_tok, *c.n_routed_experts);
    compare("shared_out", keeper_.stages["layer.0.shared_out"]);
    compare("out", all(out));
  }

  void compare_routing(int64_t rows, int64_t top_k, int64_t experts) {
    const int32_t* expected = samples_.at(module_ + ".topk_idx").as<int32_t>();
    const float* gap = samples_.at(module_ + ".gap").as<float>();
    StageError weights{"topk_weight", 0, 6e-5, rows * top_k, ""}, scores{"scores", 0, 2e-5, rows * experts, ""};
    for (int64_t r = 0; r < rows; ++r) {
      // The gaps of these inputs are wide: no near tie to excuse anything.
      if (!std::equal(expected + r * top_k, expected + (r + 1) * top_k, keeper_.expert.begin() + r * top_k))
        report_.failures.push_back(fmt::format("{} row {}: other experts, gap {}", module_, r, gap[r]));
      for (int64_t k = r * top_k; k < (r + 1) * top_k; ++k)
        note(weights, keeper_.weight[static_cast<size_t>(k)], samples_.at(module_ + ".topk_weight").as<float>()[k],
             fmt::format("topk_weight row {}", r));
      for (int64_t e = r * experts; e < (r + 1) * experts; ++e)
        note(scores, keeper_.scores[static_cast<size_t>(e)], samples_.at(module_ + ".scores").as<float>()[e],
             fmt::format("scores row {}", r));
    }
    report_.stages.push_back(weights);
    report_.stages.push_back(scores);
  }

  Ops& ops_;
  nlohmann::json json_;
  SafetensorsFile samples_;
  std::string module_;
  Formula formula_;
  ModelConfig config_ = preset_config("small");
  Keeper keeper_;
  CaseReport report_;
};

}  // namespace

std::vector<std::string> fullwidth_modules() {
  return {"siglip_block", "patch_embed", "projector", "mla_small", "mha_tiny", "moe_small", "moe_base"};
}

CaseReport run_fullwidth(Ops& ops, DType storage, const std::filesystem::path& folder, const std::string& module) {
  return Runner(ops, storage, folder, module).run();
}

}  // namespace vl2::parity
