#include "apps/cli/answering.h"

#include <atomic>
#include <chrono>
#include <utility>

#include "apps/cli/terminal.h"
#include "core/base/error.h"

namespace vl2::cli {
namespace {

constexpr std::chrono::milliseconds kLookForInterrupt{30};
constexpr int kPatientLooks = 10;
constexpr std::string_view kPlaceholder = "<image>";

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

ProgressCallback progress_callback(ProgressLine& progress) {
  return [&progress](Stage stage, int64_t done, int64_t total) {
    switch (stage) {
      case Stage::kLoad:
        return progress.show("load:", done, total, "tensors");
      case Stage::kVision:
        return progress.show("vision:", done, total, "tiles");
      case Stage::kCached:
        return;
      case Stage::kPrefill:
        return progress.show("prefill:", done, total, "tokens");
    }
  };
}

// Before the engine says anything itself.
void show_first_stage(const Request& request) {
  int64_t tiles = 0;
  for (const TiledImage& image : request.prompt.images) tiles += image.num_tiles();
  if (tiles > 0) {
    request.progress(Stage::kVision, 0, tiles);
  } else {
    request.progress(Stage::kPrefill, 0, static_cast<int64_t>(request.prompt.input_ids.size()));
  }
}

std::string counted(int64_t n, std::string_view what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

// "  123.4 tokens/s", nothing where nothing was done
std::string rate(int64_t n, double ms, std::string_view what) {
  return n > 0 && ms > 0 ? fmt::format("  {:.1f} {}/s", 1000.0 * static_cast<double>(n) / ms, what) : "";
}

// What a small GPU made of "auto"; empty: nothing that one would not expect.
std::string placement_note(const Engine& engine, const ComputeOptions& asked) {
  if (asked.backend != "auto") return {};
  if (engine.gpu_layers() >= 0 && asked.gpu_layers < 0)
    return fmt::format("vl2: the GPU has no room for all: the experts of layers {} and later are on the CPU\n",
                       engine.gpu_layers());
  if (engine.backend() == "cpu" && resolve_backend("auto") == "cuda")
    return "vl2: the GPU has no room for this model: the CPU answers\n";
  return {};
}

}  // namespace

OpenedModel open_model(const std::filesystem::path& folder, const std::string& lora, const ComputeOptions& compute,
                       int64_t max_context, ProgressLine& progress, std::shared_ptr<const Processor> processor) {
  const auto start = std::chrono::steady_clock::now();
  EngineOptions options;
  options.backend = compute.backend;
  options.compute = compute.backend_options(DType::kBF16, false);  // the engine looks at what is stored
  options.max_context = max_context;
  options.lora = lora;
  options.max_sequences = 1;
  options.picture_cache_bytes = 0;  // a conversation's pictures are in the cache of its prefix
  options.progress = progress_callback(progress);
  OpenedModel result;
  result.engine = Engine::open(folder, std::move(options), std::move(processor));
  result.load_ms = milliseconds_since(start);
  if (const std::string note = placement_note(*result.engine, compute); !note.empty()) {
    progress.clear();
    write_stderr(note);
  }
  return result;
}

Request make_request(MultimodalPrompt prompt, const AnswerOptions& options) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling = options.sampling;
  request.max_new_tokens = options.max_new_tokens;
  request.stop = options.stop;
  request.speculation = options.speculation();
  return request;
}

Answer stream_answer(Engine& engine, Request request, ProgressLine& progress, const InterruptWatch& interrupt,
                     const std::function<void(std::string_view)>& on_text) {
  const auto shown = std::make_shared<std::atomic<bool>>(true);
  request.progress = [shown, show = progress_callback(progress)](Stage stage, int64_t done, int64_t total) {
    if (*shown) show(stage, done, total);
  };
  show_first_stage(request);
  Answer cut_short;
  cut_short.finish = FinishReason::kCancelled;
  const std::shared_ptr<TokenStream> stream = engine.submit(std::move(request));
  int looks_since_cancel = 0;
  while (true) {
    while (!stream->wait_for(kLookForInterrupt)) {
      if (!interrupt.requested()) continue;
      stream->cancel();
      if (++looks_since_cancel < kPatientLooks) continue;
      *shown = false;
      progress.clear();
      return cut_short;
    }
    if (interrupt.requested()) stream->cancel();
    const std::optional<TokenEvent> event = stream->next();
    progress.clear();
    if (!event) return stream->answer();
    cut_short.text += event->text;
    cut_short.ids.push_back(event->id);
    if (!event->text.empty()) on_text(event->text);
  }
}

AnswerWriter::AnswerWriter() : terminal_(stdout_is_terminal()) {}

void AnswerWriter::write(std::string_view text) {
  write_stdout(terminal_ ? printable(text) : text);
  at_line_start_ = text.ends_with('\n');
}

void AnswerWriter::finish() {
  if (!at_line_start_) write_stdout("\n");
}

std::string with_placeholders(const std::string& text, size_t num_pictures) {
  size_t there = 0;
  for (size_t at = text.find(kPlaceholder); at != text.npos; at = text.find(kPlaceholder, at + 1)) ++there;
  if (there > num_pictures)
    fail(ErrorCode::kInvalidArgument,
         "the text has {} but there {} {}; give a picture for each <image>, or leave it out",
         counted(static_cast<int64_t>(there), "<image> placeholder"), num_pictures == 1 ? "is" : "are",
         counted(static_cast<int64_t>(num_pictures), "picture"));
  std::string result;
  for (size_t i = there; i < num_pictures; ++i) result += std::string(kPlaceholder) + "\n";
  return result + text;
}

std::string timings_text(const Answer& answer, std::optional<double> load_ms) {
  const Usage& usage = answer.usage;
  const Timings& t = answer.timings;
  std::string text = "prompt   " + counted(usage.prompt_tokens, "token");
  if (usage.tiles > 0) text += fmt::format(" ({} of pictures, {})", usage.vision_tokens, counted(usage.tiles, "tile"));
  if (usage.cached_tokens > 0) text += fmt::format(", {} known from before", usage.cached_tokens);
  text += ", answer " + counted(usage.completion_tokens, "token") + "\n";
  const auto line = [&text](std::string_view stage, double ms, int64_t n, std::string_view what) {
    text += fmt::format("{:<9}{:.3f} s{}\n", stage, ms / 1000, rate(n, ms, what));
  };
  if (load_ms) line("load", *load_ms, 0, "");
  if (usage.tiles > 0) line("vision", t.vision_ms, usage.tiles, "tiles");
  line("prefill", t.prefill_ms, usage.prompt_tokens - usage.cached_tokens, "tokens");
  line("decode", t.decode_ms, usage.completion_tokens - 1, "tokens");  // the first one comes out of the prefill
  if (t.drafted_tokens > 0) text += fmt::format("drafts   {} of {} accepted\n", t.accepted_tokens, t.drafted_tokens);
  line("total", load_ms.value_or(0) + t.total_ms(), 0, "");
  return text;
}

}  // namespace vl2::cli
