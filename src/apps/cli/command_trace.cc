// vl2 trace: runs a case once and writes every stage's activations.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/commands.h"
#include "apps/cli/model_files.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/output_file.h"
#include "apps/cli/progress_line.h"
#include "apps/cli/trace_input.h"
#include "engine/backends.h"
#include "engine/model/deepseek_vl2.h"
#include "engine/model/trace_case.h"

namespace vl2::cli {
namespace {

struct TraceCommandOptions {
  std::string model, trace_case, tiles, request, output;
  PictureOptions pictures;
  ComputeOptions compute;
  int64_t generate = 0;
  bool no_layer_details = false;
};

TraceCase read_case(const TraceCommandOptions& options, const ModelFiles& model) {
  if (!options.request.empty()) return case_of_request(options.request, model, options.pictures);
  const ModelConfig& config = model.config;
  const SafetensorsFile file(options.trace_case);
  std::optional<SafetensorsFile> tiles;
  if (!options.tiles.empty()) tiles.emplace(options.tiles);
  return read_trace_case(file, tiles ? &*tiles : nullptr, config);
}

template <typename T>
TraceTensor input_tensor(const char* name, DType dtype, const Shape& shape, const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  return {name, dtype, shape, {bytes, bytes + values.size() * sizeof(T)}};
}

// What the stages were computed from, under the names of a case.
std::vector<TraceTensor> input_tensors(const TraceCase& c) {
  const Shape shape = {c.batch, c.length};
  size_t most_images = 1;
  for (const auto& images : c.images) most_images = std::max(most_images, images.size());
  std::vector<int64_t> crops(static_cast<size_t>(c.batch) * most_images * 2);
  for (size_t b = 0; b < c.images.size(); ++b)
    for (size_t i = 0; i < c.images[b].size(); ++i) {
      crops[(b * most_images + i) * 2] = c.images[b][i].tiles_wide;
      crops[(b * most_images + i) * 2 + 1] = c.images[b][i].tiles_high;
    }
  const std::vector<int64_t> ids(c.input_ids.begin(), c.input_ids.end());
  return {input_tensor("input_ids", DType::kI64, shape, ids),
          input_tensor("images_spatial_crop", DType::kI64, {c.batch, static_cast<int64_t>(most_images), 2}, crops),
          input_tensor("images_seq_mask", DType::kBool, shape, c.image_mask),
          input_tensor("attention_mask", DType::kBool, shape, c.attention_mask)};
}

// Wide element types first, as the format wants them to be aligned.
void write_trace(const std::filesystem::path& path, std::vector<TraceTensor> tensors, const std::string& backend) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const TraceTensor& a, const TraceTensor& b) {
    return dtype_size(a.dtype) > dtype_size(b.dtype);
  });
  std::vector<NamedTensor> named;
  named.reserve(tensors.size());
  for (const TraceTensor& t : tensors) named.push_back({t.name, t.view()});
  write_safetensors(path, named, {{"backend", backend}});
}

int run(const TraceCommandOptions& options) {
  if (options.trace_case.empty() == options.request.empty()) throw UsageError("give either --case or --request");
  check_writable(options.output);
  const ModelFiles model(find_model(options.model));
  const TraceCase c = read_case(options, model);
  const Placement placement = place_cases(model, {&c, 1}, options.compute, options.generate);
  const auto ops = make_ops(placement.backend, placement.compute);

  ProgressLine progress("trace");
  CheckpointSource source(model.checkpoint);
  const DeepseekVl2 vl2(model.config, *ops, source, [&progress](int64_t done, int64_t total) {
    progress.show("loading:", done, total, "tensors");
  });
  progress.show("running:", c.batch, c.batch, c.batch == 1 ? "sequence" : "sequences");
  TraceOptions trace;
  trace.layer_details = !options.no_layer_details;
  if (options.generate > 0) trace.generations = {{"gen", options.generate, 1.0f, {}}};
  std::vector<TraceTensor> tensors = input_tensors(c);
  for (TraceTensor& tensor : run_trace_case(vl2, c, trace)) tensors.push_back(std::move(tensor));
  write_trace(options.output, std::move(tensors), ops->description());
  return kExitOk;
}

}  // namespace

RunCommand declare_trace(CLI::App& app) {
  const auto options = std::make_shared<TraceCommandOptions>();
  add_model_option(app, options->model);
  app.add_option("--case", options->trace_case,
                 "Inputs: input_ids, images_seq_mask, attention_mask, images_spatial_crop, tile_ids")
      ->type_name("CASE.safetensors");
  app.add_option("--tiles", options->tiles, "The pool tiles_u8 that the case's tile_ids count in")
      ->type_name("TILES.safetensors");
  app.add_option("--request", options->request,
                 "Instead of a case: a conversation with its pictures, as `vl2 prompt` takes it; - reads stdin")
      ->type_name("REQ.json");
  app.add_option("-o,--output", options->output, "Where the stages go")->type_name("OUT.safetensors")->required();
  app.add_option("--generate", options->generate,
                 "Also N greedy tokens, not stopped at eos: gen.tokens, gen.margin, gen.logits")
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 20).description(""));
  app.add_flag("--no-layer-details", options->no_layer_details,
               "Leave out layer.*: parts of the decoder layers, caches, attention weights [B, H, T, T]");
  add_compute_options(app, options->compute);
  add_picture_options(app, options->pictures);
  app.footer(
      "Stages: vision.*, projector.*, inputs_embeds, hidden.i, layer.i.*, gate.i.*, logits, and the inputs, all whole\n"
      "and in float32. A padded batch has zeros at the rows its attention mask leaves out.\n\n"
      "Example:\n  vl2 trace -m MODEL --case CASE.safetensors --tiles TILES.safetensors -o OUT.safetensors --generate "
      "24");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli
