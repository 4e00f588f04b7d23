#include "apps/cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>

#include "apps/cli/commands.h"
#include "apps/cli/terminal.h"
#include "core/base/error.h"

namespace vl2::cli {
namespace {

constexpr size_t kMostPictureBytes = size_t{1} << 30;
constexpr int kMostThreads = 1024;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

void add_model_option(CLI::App& app, std::string& model) {
  app.add_option("-m,--model", model,
                 "Model folder, or ORG/NAME from the Hugging Face cache (default: the small one shipped with vl2)")
      ->type_name("MODEL");
}

void add_lora_option(CLI::App& app, std::string& adapter) {
  app.add_option("--lora", adapter, "A LoRA adapter of this model, in PEFT's format: merged while the model is loaded")
      ->type_name("DIR");
}

BackendOptions ComputeOptions::backend_options(DType weights, bool quantized) const {
  BackendOptions result;
  result.compute = compute == "f32" ? Compute::kF32 : compute == "bf16" ? Compute::kBF16 : Compute::kAuto;
  result.cache = cache == "f32"    ? CacheType::kF32
                 : cache == "bf16" ? CacheType::kBF16
                 : cache == "int8" ? CacheType::kInt8
                                   : CacheType::kAuto;
  result.threads = threads;
  result.device = device;
  result.gpu_layers = gpu_layers;
  result.weights = weights;
  result.quantized = quantized;
  return result;
}

// "cuda:1" -> backend "cuda" and GPU 1.
void parse_device(const std::string& text, ComputeOptions& options) {
  const size_t colon = text.find(':');
  options.backend = text.substr(0, colon);
  if (colon == text.npos) return;
  const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
  const auto parsed = std::from_chars(begin, end, options.device);
  if (options.backend != "cuda" || parsed.ec != std::errc() || parsed.ptr != end || options.device < 0)
    throw CLI::ValidationError("--device", fmt::format("\"{}\" is none of auto, cpu, cuda and cuda:N", text));
}

void add_compute_options(CLI::App& app, ComputeOptions& options) {
  std::vector<std::string> backends = {"auto"};
  for (const std::string_view name : backend_names()) backends.emplace_back(name);
  app.add_option("--backend", options.backend,
                 fmt::format("What computes: {} (default: auto)", fmt::join(backends, ", ")))
      ->type_name("NAME")
      ->check(CLI::IsMember(backends).description(""));
  app.add_option_function<std::string>(
         "--device", [&options](const std::string& text) { parse_device(text, options); },
         "Where: auto (default: a GPU if there is one), cpu, cuda or cuda:N for the GPU of that number")
      ->type_name("PLACE")
      ->check(CLI::Validator(
          [](std::string& text) {
            return text == "auto" || text == "cpu" || text == "cuda" || text.starts_with("cuda:")
                       ? std::string()
                       : fmt::format("\"{}\" is none of auto, cpu, cuda and cuda:N", text);
          },
          ""))
      ->excludes("--backend");
  app.add_option("--gpu-layers", options.gpu_layers,
                 "Layers whose experts are on the GPU; the rest's stay on the CPU (default: all that fit)")
      ->type_name("N")
      ->check(CLI::Range(0, 1024).description(""));
  app.add_option("--compute", options.compute,
                 "Arithmetic: f32, bf16, or auto (default): bf16 where the weights are, on AMX or a GPU")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}).description(""));
  app.add_option("--cache", options.cache,
                 "Keys and values: f32, bf16, int8, or auto (default): bf16 where products round their rows anyway")
      ->type_name("TYPE")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}).description(""));
  app.add_option("--threads", options.threads, "Threads (default: every core this process may use)")
      ->type_name("N")
      ->check(CLI::Range(1, kMostThreads).description(""));
}

void add_answer_options(CLI::App& app, AnswerOptions& options) {
  constexpr int64_t kMostTokens = int64_t{1} << 30;
  SamplingParams& sampling = options.sampling;
  const auto number = [&app](const char* name, auto& value, const std::string& help, auto low, auto high) {
    return app.add_option(name, value, help)->type_name("N")->check(CLI::Range(low, high).description(""));
  };
  number("--max-new-tokens", options.max_new_tokens, "Longest answer (default: 512)", int64_t{1}, kMostTokens);
  number("--temperature", sampling.temperature, "0 (default): always the likeliest token; higher: more variety", 0.0,
         100.0);
  number("--top-p", sampling.top_p, "Draw from the likeliest tokens that make up this probability (default: 1, all)",
         0.0, 1.0);
  number("--top-k", sampling.top_k, "Draw from this many likeliest tokens (default: 0, all)", int64_t{0}, kMostTokens);
  number("--min-p", sampling.min_p, "Draw from tokens at least this likely beside the likeliest (default: 0, all)", 0.0,
         1.0);
  number("--repetition-penalty", sampling.repetition_penalty,
         "Above 1: less of what prompt and answer already say (default: 1, off)", 0.01, 100.0);
  number("--no-repeat-ngram", sampling.no_repeat_ngram_size, "Never the same N tokens in a row twice (default: 0, off)",
         int64_t{0}, int64_t{1024});
  number("--seed", sampling.seed, "Of the random draws (default: 0)", uint64_t{0}, UINT64_MAX);
  app.add_option("--stop", options.stop, "End the answer before this text; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  number("--max-context", options.max_context, "Longest prompt and answer together (default: the model's)", int64_t{2},
         kMostTokens);
  app.add_option(
         "--speculate", options.speculate,
         "Try several tokens a step where they repeat prompt or answer: auto (default), off, always; the answer "
         "stays the same")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "off", "always"}).description(""));
  app.add_flag("--timings", options.timings, "Say at the end, on stderr, what took how long");
}

Speculation AnswerOptions::speculation() const {
  return speculate == "off" ? Speculation::kOff : speculate == "always" ? Speculation::kAlways : Speculation::kAuto;
}

DecodeOptions PictureOptions::decode_options() const {
  DecodeOptions result;
  result.auto_orient = auto_orient;
  if (background.empty()) return result;
  const std::string text = lower(background);
  if (text.size() != 7 || text[0] != '#' || text.find_first_not_of("0123456789abcdef", 1) != std::string::npos)
    throw UsageError(fmt::format("--background is \"{}\", expected #RRGGBB such as #ffffff", background));
  std::array<uint8_t, 3> colour{};
  for (size_t i = 0; i < colour.size(); ++i)
    colour[i] = static_cast<uint8_t>(std::stoul(text.substr(1 + 2 * i, 2), nullptr, 16));
  result.background = colour;
  return result;
}

void add_picture_options(CLI::App& app, PictureOptions& options) {
  app.add_flag("--auto-orient", options.auto_orient, "Turn pictures as their EXIF data says (the releases do not)");
  app.add_option("--background", options.background,
                 "Put transparent pictures on this colour (the releases drop transparency)")
      ->type_name("#RRGGBB");
}

Image read_picture(const std::string& path, const PictureOptions& options) {
  if (path != "-") return load_image(path, options.decode_options());
  const std::string bytes = read_stdin(kMostPictureBytes);
  return decode_image(std::as_bytes(std::span(bytes)), "the picture on stdin", options.decode_options());
}

}  // namespace vl2::cli
