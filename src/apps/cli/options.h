// Options that several commands share, so that they are spelled and explained once.
#pragma once

#include <string>
#include <vector>

#include "core/image/decode.h"
#include "core/image/image.h"
#include "engine/backends.h"
#include "engine/runtime/request.h"

namespace CLI {
class App;
}

namespace vl2::cli {

// -m
void add_model_option(CLI::App& app, std::string& model);

// --lora
void add_lora_option(CLI::App& app, std::string& adapter);

// --backend, --device, --gpu-layers, --compute, --cache, --threads
struct ComputeOptions {
  std::string backend = "auto";
  std::string compute = "auto";
  std::string cache = "auto";
  int threads = 0;
  int device = 0;
  int64_t gpu_layers = -1;

  // `weights`: what the checkpoint's matrices are stored as.
  BackendOptions backend_options(DType weights, bool quantized) const;
};
void add_compute_options(CLI::App& app, ComputeOptions& options);

// --max-new-tokens, --temperature, ..., --stop, --max-context, --speculate, --timings: how an answer is made
struct AnswerOptions {
  SamplingParams sampling;
  int64_t max_new_tokens = 512;
  std::vector<std::string> stop;
  int64_t max_context = 0;
  std::string speculate = "auto";
  bool timings = false;

  Speculation speculation() const;
};
void add_answer_options(CLI::App& app, AnswerOptions& options);

// --auto-orient, --background
struct PictureOptions {
  bool auto_orient = false;
  std::string background;

  DecodeOptions decode_options() const;  // UsageError: no colour
};
void add_picture_options(CLI::App& app, PictureOptions& options);

// A picture from a file, or from stdin for "-".
Image read_picture(const std::string& path, const PictureOptions& options);

}  // namespace vl2::cli
