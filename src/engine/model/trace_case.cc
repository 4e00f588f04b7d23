// B: batch, T: padded length, D: hidden size, H: heads.
#include "engine/model/trace_case.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "engine/model/moe.h"
#include "engine/model/sequence_runner.h"

namespace vl2 {
namespace {

using Results = std::vector<TraceTensor>;

template <typename T>
void add(Results& results, const std::string& name, DType dtype, const Shape& shape, const std::vector<T>& values) {
  VL2_CHECK(num_elements(shape) == static_cast<int64_t>(values.size()) && sizeof(T) == dtype_size(dtype), "{}: {}",
            name, shape_string(shape));
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  results.push_back({name, dtype, shape, {bytes, bytes + values.size() * sizeof(T)}});
}

// Where the batch's packed rows stand in [B, T].
struct Layout {
  int64_t batch = 0, length = 0;
  std::vector<std::vector<int64_t>> columns;      // t of every token of each sample
  std::vector<std::pair<int64_t, int64_t>> rows;  // (sample, t) of every packed row

  explicit Layout(const TraceCase& c) : batch(c.batch), length(c.length), columns(static_cast<size_t>(c.batch)) {
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t t = 0; t < length; ++t) {
        if (c.attention_mask[static_cast<size_t>(b * length + t)] == 0) continue;
        columns[static_cast<size_t>(b)].push_back(t);
        rows.emplace_back(b, t);
      }
    }
  }
  size_t flat(size_t row) const { return static_cast<size_t>(rows[row].first * length + rows[row].second); }

  // [rows, width] -> [B, T, width]
  template <typename T>
  std::vector<T> spread(const T* packed, int64_t row_stride, int64_t width) const {
    std::vector<T> result(static_cast<size_t>(batch * length * width));
    for (size_t r = 0; r < rows.size(); ++r)
      std::copy_n(packed + static_cast<int64_t>(r) * row_stride, width,
                  result.begin() + static_cast<int64_t>(flat(r)) * width);
    return result;
  }
};

class Recorder : public StageTap {
 public:
  Recorder(const ModelConfig& config, const Layout& layout, bool layer_details, Results& results)
      : config_(config), layout_(layout), layer_details_(layer_details), results_(results) {}

  bool wants_layer_details() const override { return layer_details_; }

  void stage(const std::string& name, Tensor values) override {
    if (name.starts_with("vision.")) {
      per_tile(name, values, config_.vision.num_patches());
    } else if (name == "projector.unfold_in") {
      const int64_t rows = config_.tokens_per_side() * config_.tokens_per_side();
      if (values.rows > rows) per_tile(name, values.row_range(rows, rows), rows);  // the goldens keep tile 1 alone
    } else if (name.starts_with("projector.")) {
      per_tile(name, values, config_.tokens_per_side() * config_.tokens_per_side());
    } else if (name.ends_with("attn_weights")) {
      attention_weights(name, values);
    } else {
      add(results_, name, DType::kF32, {layout_.batch, layout_.length, values.cols},
          layout_.spread(values.data, values.row_stride, values.cols));
    }
  }

  void routing(int64_t layer, const Routing& routing) override {
    const std::string name = fmt::format("gate.{}.", layer);
    const int64_t all = layout_.batch * layout_.length, k = routing.top_k, experts = routing.num_experts;
    std::vector<float> gap(static_cast<size_t>(routing.num_tokens));
    for (int64_t t = 0; t < routing.num_tokens; ++t)
      gap[static_cast<size_t>(t)] = selection_gap(routing, t, router_params(config_.language));
    add(results_, name + "topk_idx", DType::kI32, {all, k}, layout_.spread(routing.expert.data(), k, k));
    add(results_, name + "topk_weight", DType::kF32, {all, k}, layout_.spread(routing.weight.data(), k, k));
    add(results_, name + "scores", DType::kF32, {all, experts},
        layout_.spread(routing.scores.data(), experts, experts));
    add(results_, name + "gap", DType::kF32, {all}, layout_.spread(gap.data(), 1, 1));
  }

 private:
  void per_tile(const std::string& name, Tensor values, int64_t rows_per_tile) {
    std::vector<float> copy;
    for (int64_t r = 0; r < values.rows; ++r) copy.insert(copy.end(), values.row(r), values.row(r) + values.cols);
    add(results_, name, DType::kF32, {values.rows / rows_per_tile, rows_per_tile, values.cols}, copy);
  }

  // [rows, H, longest] over each sequence's own tokens -> [B, H, T, T]
  void attention_weights(const std::string& name, Tensor values) {
    const int64_t length = layout_.length, heads = values.heads;
    std::vector<float> spread(static_cast<size_t>(layout_.batch * heads * length * length));
    for (int64_t r = 0; r < values.rows; ++r) {
      const auto [b, t] = layout_.rows[static_cast<size_t>(r)];
      const std::vector<int64_t>& columns = layout_.columns[static_cast<size_t>(b)];
      for (int64_t h = 0; h < heads; ++h)
        for (size_t j = 0; j < columns.size(); ++j)
          spread[static_cast<size_t>(((b * heads + h) * length + t) * length + columns[j])] = values.at(r, h)[j];
    }
    add(results_, name, DType::kF32, {layout_.batch, heads, length, length}, spread);
  }

  const ModelConfig& config_;
  const Layout& layout_;
  bool layer_details_;
  Results& results_;
};

std::vector<SequenceInput> sequences_of(const TraceCase& c, const Layout& layout) {
  std::vector<SequenceInput> sequences(static_cast<size_t>(c.batch));
  for (const auto& [b, t] : layout.rows) {
    SequenceInput& s = sequences[static_cast<size_t>(b)];
    s.ids.push_back(c.input_ids[static_cast<size_t>(b * c.length + t)]);
    s.is_image.push_back(c.image_mask[static_cast<size_t>(b * c.length + t)] != 0);
  }
  for (size_t b = 0; b < sequences.size(); ++b) {
    sequences[b].images = c.images[b];
    sequences[b].pixels = c.pixels[b];
  }
  return sequences;
}

// What the cache holds, as the official cache tensors: MHA keys and values [B, G, T, K], MLA k_pe [B, 1, T, R] and the
// latent [B, 1, T, L].
void add_caches(Results& results, const SequenceRunner& runner, const LanguageConfig& config, const Layout& layout) {
  struct Part {
    int64_t offset, heads, size;
  };
  const int64_t groups = config.num_key_value_heads, size = config.qk_head_dim();
  const Part mha[2] = {{0, groups, size}, {groups * size, groups, size}};
  const Part mla[2] = {{config.kv_lora_rank, 1, config.qk_rope_head_dim}, {0, 1, config.kv_lora_rank}};
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    for (int part = 0; part < 2; ++part) {
      const Part& p = config.use_mla ? mla[part] : mha[part];
      std::vector<float> values(static_cast<size_t>(layout.batch * p.heads * layout.length * p.size));
      for (int64_t b = 0; b < layout.batch; ++b) {
        const std::vector<int64_t>& columns = layout.columns[static_cast<size_t>(b)];
        for (size_t i = 0; i < columns.size(); ++i) {
          const std::vector<float> row = runner.cached(b, layer, static_cast<int64_t>(i));
          for (int64_t h = 0; h < p.heads; ++h)
            std::copy_n(row.begin() + p.offset + h * p.size, p.size,
                        values.begin() + ((b * p.heads + h) * layout.length + columns[i]) * p.size);
        }
      }
      add(results, fmt::format("layer.{}.cache{}", layer, part), DType::kF32,
          {layout.batch, p.heads, layout.length, p.size}, values);
    }
  }
}

// One token's choice from its logits.
struct Choice {
  int64_t token;
  float margin;  // over the second best
};

Choice choose(std::span<const float> logits, const std::set<int32_t>& seen, float penalty) {
  std::vector<float> scores(logits.begin(), logits.end());
  if (penalty != 1.0f) {
    for (int32_t id : seen) {
      float& score = scores[static_cast<size_t>(id)];
      score = score > 0 ? score / penalty : score * penalty;
    }
  }
  const auto best = std::max_element(scores.begin(), scores.end());
  const float top = *best;
  *best = -std::numeric_limits<float>::infinity();
  return {best - scores.begin(), top - *std::max_element(scores.begin(), scores.end())};
}

// `logits` [B, V] follow the last token that has been run; the runner goes back to where it stood.
void generate(Results& results, SequenceRunner& runner, const TraceCase& c, const TraceGeneration& generation,
              std::vector<float> logits) {
  const int64_t batch = c.batch, steps = generation.steps, vocab = static_cast<int64_t>(logits.size()) / batch;
  VL2_CHECK(generation.teacher.empty() || static_cast<int64_t>(generation.teacher.size()) == batch * steps);
  std::vector<int64_t> tokens(static_cast<size_t>(batch * steps)), start;
  std::vector<float> margins(tokens.size()), all_logits(tokens.size() * static_cast<size_t>(vocab));
  std::vector<std::set<int32_t>> seen;
  for (int64_t b = 0; b < batch; ++b) {
    start.push_back(runner.past(b));
    seen.emplace_back(c.input_ids.begin() + b * c.length, c.input_ids.begin() + (b + 1) * c.length);
  }
  for (int64_t n = 0; n < steps; ++n) {
    for (int64_t b = 0; b < batch; ++b) {
      const auto at = static_cast<size_t>(b * steps + n);
      const std::span<const float> row(logits.data() + b * vocab, static_cast<size_t>(vocab));
      const Choice choice = choose(row, seen[static_cast<size_t>(b)], generation.repetition_penalty);
      tokens[at] = choice.token;
      margins[at] = choice.margin;
      std::copy(row.begin(), row.end(), all_logits.begin() + static_cast<int64_t>(at) * vocab);
      const auto next = static_cast<int32_t>(generation.teacher.empty() ? choice.token : generation.teacher[at]);
      seen[static_cast<size_t>(b)].insert(next);
      runner.append(b, next);
    }
    if (n + 1 < steps) logits = runner.step_all(SequenceRunner::Logits::kLast);
  }
  for (int64_t b = 0; b < batch; ++b) runner.rewind(b, start[static_cast<size_t>(b)]);
  add(results, generation.prefix + ".tokens", DType::kI64, {batch, steps}, tokens);
  add(results, generation.prefix + ".margin", DType::kF32, {batch, steps}, margins);
  add(results, generation.prefix + ".logits", DType::kF32, {batch, steps, vocab}, all_logits);
}

std::vector<float> last_rows(const std::vector<float>& logits, const Layout& layout, int64_t vocab) {
  std::vector<float> last;
  int64_t row = 0;
  for (const auto& columns : layout.columns) {
    row += static_cast<int64_t>(columns.size());
    last.insert(last.end(), logits.begin() + (row - 1) * vocab, logits.begin() + row * vocab);
  }
  return last;
}

// Everything but the last token in chunks, then generation starting with that token (golden quirk 21).
void run_incremental(Results& results, SequenceRunner& runner, const TraceCase& c, const TraceOptions& options) {
  VL2_CHECK(c.batch == 1, "incremental prefill is defined for one sequence");
  const int64_t length = runner.past(0);
  runner.restart(0);
  for (int64_t done = 0; done + 1 < length;) {
    const int64_t count = std::min(options.incremental_chunk, length - 1 - done);
    const SequenceRunner::Part part{0, count};
    runner.step({&part, 1}, SequenceRunner::Logits::kNone);
    done += count;
  }
  const std::vector<float> first = runner.step_all(SequenceRunner::Logits::kLast);
  Results generated;
  generate(generated, runner, c, {"incremental", options.incremental_steps, 1.0f, {}}, first);
  add(results, "incremental.chunk_size", DType::kI64, {1}, std::vector<int64_t>{options.incremental_chunk});
  generated[0].name = "incremental.gen_tokens";
  results.push_back(std::move(generated[0]));
  add(results, "incremental.first_logits", DType::kF32, {1, static_cast<int64_t>(first.size())}, first);
}

// --- reading a case ---

const TensorView& input(const SafetensorsFile& file, const std::string& name, DType dtype, size_t dimensions) {
  const TensorView& tensor = file.at(name);
  if (tensor.dtype != dtype || tensor.shape.size() != dimensions)
    fail(ErrorCode::kCorrupt, "{}: {} is {} {}, expected {} with {} dimensions", file.path().string(), name,
         dtype_name(tensor.dtype), shape_string(tensor.shape), dtype_name(dtype), dimensions);
  return tensor;
}

// (u8 / 255 - 0.5) / 0.5, appended.
void append_tile(std::vector<float>& pixels, const uint8_t* tile, int64_t size) {
  for (int64_t i = 0; i < size; ++i) pixels.push_back((static_cast<float>(tile[i]) / 255.0f - 0.5f) / 0.5f);
}

}  // namespace

float selection_gap(const Routing& routing, int64_t token, const RouterParams& p) {
  const auto first = static_cast<size_t>(token * routing.num_experts);
  const auto all = routing.choice.subspan(first, static_cast<size_t>(routing.num_experts));
  std::vector<float> choice(all.begin(), all.end());
  float gap = std::numeric_limits<float>::infinity();
  if (p.topk_method != TopkMethod::kGreedy && p.topk_groups < p.num_groups) {
    const int64_t size = routing.num_experts / p.num_groups;
    std::vector<float> scores;
    for (int64_t g = 0; g < p.num_groups; ++g) {
      std::vector<float> members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::sort(members.rbegin(), members.rend());
      scores.push_back(p.topk_method == TopkMethod::kNoauxTc && size > 1 ? members[0] + members[1] : members[0]);
    }
    std::vector<float> order = scores;
    std::sort(order.rbegin(), order.rend());
    const float last_kept = order[static_cast<size_t>(p.topk_groups - 1)];
    gap = last_kept - order[static_cast<size_t>(p.topk_groups)];
    for (size_t e = 0; e < choice.size(); ++e)
      if (scores[e / static_cast<size_t>(size)] < last_kept) choice[e] = 0.0f;
  }
  std::sort(choice.rbegin(), choice.rend());
  if (routing.top_k < routing.num_experts)
    gap = std::min(gap, choice[static_cast<size_t>(routing.top_k - 1)] - choice[static_cast<size_t>(routing.top_k)]);
  return gap;
}

TraceCase read_trace_case(const SafetensorsFile& file, const SafetensorsFile* tiles, const ModelConfig& config) {
  const TensorView& ids = input(file, "input_ids", DType::kI64, 2);
  const TensorView& image_mask = input(file, "images_seq_mask", DType::kBool, 2);
  const TensorView& attention_mask = input(file, "attention_mask", DType::kBool, 2);
  const TensorView& crops = input(file, "images_spatial_crop", DType::kI64, 3);
  const TensorView& tile_ids = input(file, "tile_ids", DType::kI64, 2);
  const int64_t batch = ids.shape[0], size = config.vision.image_size;
  const TensorView no_tiles{nullptr, DType::kU8, {0, 3, size, size}};
  const TensorView& pool = tiles != nullptr ? input(*tiles, "tiles_u8", DType::kU8, 4) : no_tiles;
  if (batch < 1 || ids.shape[1] < 1 || image_mask.shape != ids.shape || attention_mask.shape != ids.shape ||
      crops.shape[0] != batch || crops.shape[2] != 2 || tile_ids.shape[0] != batch ||
      pool.shape != Shape{pool.shape[0], 3, size, size})
    fail(ErrorCode::kCorrupt, "{}: the inputs' shapes do not fit each other or tiles of {} pixels",
         file.path().string(), size);

  TraceCase c;
  c.batch = batch;
  c.length = ids.shape[1];
  for (int64_t i = 0; i < ids.size(); ++i) {
    const int64_t id = ids.as<int64_t>()[i];
    if (id < 0 || id >= config.language.vocab_size)
      fail(ErrorCode::kCorrupt, "{}: token id {} is outside the vocabulary of {}", file.path().string(), id,
           config.language.vocab_size);
    c.input_ids.push_back(static_cast<int32_t>(id));
  }
  c.image_mask.assign(image_mask.as<uint8_t>(), image_mask.as<uint8_t>() + image_mask.size());
  c.attention_mask.assign(attention_mask.as<uint8_t>(), attention_mask.as<uint8_t>() + attention_mask.size());
  c.images.resize(static_cast<size_t>(batch));
  c.pixels.resize(static_cast<size_t>(batch));
  for (int64_t b = 0; b < batch; ++b) {
    int64_t used = 0;
    for (int64_t n = 0; n < crops.shape[1]; ++n) {
      const int64_t* crop = crops.as<int64_t>() + (b * crops.shape[1] + n) * 2;
      if (crop[0] == 0 && crop[1] == 0) break;
      const ImageGrid grid{crop[0], crop[1]};
      if (crop[0] < 1 || crop[1] < 1 || crop[0] > tile_ids.shape[1] || crop[1] > tile_ids.shape[1] ||
          used + grid.num_tiles() > tile_ids.shape[1])
        fail(ErrorCode::kCorrupt, "{}: a picture of {} x {} tiles, but only {} tiles are given", file.path().string(),
             crop[0], crop[1], tile_ids.shape[1] - used);
      c.images[static_cast<size_t>(b)].push_back(grid);
      used += grid.num_tiles();
    }
    for (int64_t k = 0; k < used; ++k) {
      const int64_t tile = tile_ids.as<int64_t>()[b * tile_ids.shape[1] + k];
      if (tile < 0 || tile >= pool.shape[0])
        fail(ErrorCode::kCorrupt, "{}: tile {} of {}", file.path().string(), tile, pool.shape[0]);
      append_tile(c.pixels[static_cast<size_t>(b)], pool.as<uint8_t>() + tile * 3 * size * size, 3 * size * size);
    }
  }
  return c;
}

std::vector<TraceTensor> run_trace_case(const DeepseekVl2& model, const TraceCase& c, const TraceOptions& options) {
  Results results;
  const Layout layout(c);
  Recorder recorder(model.config(), layout, options.layer_details, results);
  int64_t room = options.incremental_chunk > 0 ? options.incremental_steps : 0;
  for (const TraceGeneration& g : options.generations) room = std::max(room, g.steps);

  SequenceRunner runner(model, sequences_of(c, layout), room, &recorder);
  const int64_t vocab = model.config().language.vocab_size;
  const std::vector<float> logits = runner.step_all(SequenceRunner::Logits::kAll, &recorder);
  if (options.layer_details) add_caches(results, runner, model.config().language, layout);
  add(results, "logits", DType::kF32, {c.batch, c.length, vocab}, layout.spread(logits.data(), vocab, vocab));

  const std::vector<float> last = last_rows(logits, layout, vocab);
  for (const TraceGeneration& g : options.generations) generate(results, runner, c, g, last);
  if (options.incremental_chunk > 0) run_incremental(results, runner, c, options);
  return results;
}

}  // namespace vl2
