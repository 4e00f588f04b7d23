// vl2 bench-serve: load on a server that runs already, and what it makes of it.
#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <memory>

#include "apps/cli/bench_serve.h"
#include "apps/cli/commands.h"
#include "apps/cli/progress_line.h"
#include "apps/cli/terminal.h"
#include "core/base/file.h"

namespace vl2::cli {
namespace {

struct BenchServeOptions {
  std::string work = "all", url = "http://127.0.0.1:8080", picture, large, save;
  ServeBenchOptions bench;
  bool json = false;
};

ImageSize parse_size(const char* option, const std::string& text) {
  ImageSize size;
  const char* end = text.data() + text.size();
  const auto width = std::from_chars(text.data(), end, size.width);
  const auto height = width.ec == std::errc() && width.ptr != end && *width.ptr == 'x'
                          ? std::from_chars(width.ptr + 1, end, size.height)
                          : width;
  constexpr int64_t kMost = 10'000;
  if (height.ec != std::errc() || height.ptr != end || size.width < 1 || size.height < 1 || size.width > kMost ||
      size.height > kMost)
    throw UsageError(fmt::format("{} is \"{}\", expected WIDTHxHEIGHT such as 640x480", option, text));
  return size;
}

int run(BenchServeOptions options) {
  ServeBenchOptions& bench = options.bench;
  bench.server.address = parse_server_address(options.url);
  if (!options.picture.empty()) bench.picture = parse_size("--picture", options.picture);
  if (!options.large.empty()) bench.large = parse_size("--large-picture", options.large);
  if (options.work != "all") bench.work = {options.work};
  for (const int64_t streams : bench.streams)
    if (streams < 1 || streams > 1024) throw UsageError("--streams takes numbers from 1 to 1024");
  if (bench.seed == 0) bench.seed = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  ProgressLine progress("bench-serve");
  const ServeBenchReport report = run_serve_bench(bench, [&](const std::string& work, int64_t done, int64_t total) {
    progress.show(work, done, total, "repeats");
  });
  progress.clear();
  if (!options.save.empty()) write_file_atomic(options.save, serve_bench_json(report));
  write_stdout(options.json ? serve_bench_json(report) : serve_bench_text(report));
  return kExitOk;
}

}  // namespace

RunCommand declare_bench_serve(CLI::App& app) {
  const auto options = std::make_shared<BenchServeOptions>();
  ServeBenchOptions& bench = options->bench;
  constexpr int64_t kMany = 1'000'000;
  const auto number = [&app](const char* name, int64_t& value, const std::string& help, int64_t low) {
    app.add_option(name, value, help)->type_name("N")->check(CLI::Range(low, kMany).description(""));
  };
  app.add_option("work", options->work, "streams, beside, second or all (default)")
      ->check(CLI::IsMember({"streams", "beside", "second", "all"}).description(""))
      ->type_name("WORK");
  app.add_option("--url", options->url, "The server (default: http://127.0.0.1:8080)")->type_name("URL");
  app.add_option("--api-key", bench.server.key, "Its key")->type_name("KEY")->envname("VL2_API_KEY");
  app.add_option("--streams", bench.streams, "streams: answers at a time, a result for each (1,2,4,8,16)")
      ->type_name("N,N,...")
      ->delimiter(',')
      ->allow_extra_args(false);
  number("--max-tokens", bench.max_tokens, "streams: tokens of an answer (64)", 2);
  app.add_option("--picture", options->picture, "streams: size of the picture asked about (640x480)")->type_name("WxH");
  app.add_flag("--fresh", bench.fresh, "streams: a new picture with each question, not the same one");
  number("--beside", bench.beside, "beside: streams that answer while a long prompt comes (4)", 1);
  number("--prompt-tokens", bench.prompt_tokens, "beside: tokens of the long text (2048)", 16);
  app.add_option("--large-picture", options->large, "beside, second: size of the picture (1152x1152: nine tiles)")
      ->type_name("WxH");
  number("--repeats", bench.repeats, "Measured repeats (3)", 1);
  app.add_option("--temperature", bench.temperature, "Of the answers (default: 1)")
      ->type_name("N")
      ->check(CLI::Range(0.0, 2.0).description(""));
  app.add_option(
         "--seed", bench.seed,
         "Of pictures, texts and answers (default: from the clock; what a server has seen before, it remembers)")
      ->type_name("N");
  app.add_option("--save", options->save, "The report as JSON into a file, besides what is printed")->type_name("FILE");
  app.add_flag("--json", options->json, "The same as one JSON object");
  app.footer(
      "streams: N clients ask about a picture at the same time, again and again. beside: while some answers run, a\n"
      "picture of nine tiles and then a long text are sent; how long do the others pause? second: two questions on "
      "one\n"
      "picture; what does the second one save?\n\n"
      "Example:\n  vl2 serve --parallel 16 &\n  vl2 bench-serve --streams 1,8\n"
      "  vl2 bench-serve second --url http://gpu-box:8080 --json");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli
