// Prints how far every backend is from the official implementation, as markdown: per backend a summary by stage, then
// every case. For people and release notes; the tests compare the same numbers.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "core/base/test_data.h"
#include "parity/backends.h"
#include "parity/compare_case.h"
#include "parity/fullwidth.h"
#include "parity/golden_models.h"

namespace vl2::parity {
namespace {

constexpr const char* kUsage =
    R"(vl2_parity_table [--summary] [--no-fullwidth] [BACKEND]...

Compares every golden case (VL2_SHARED or ../shared) on the named backends, or on all this machine has, and writes a
markdown table: case, stage, largest error, tolerance. --summary: the worst of each stage alone. --no-fullwidth: without
the modules at real dimensions, which take gigabytes and minutes. Exit code 1 if anything is out of tolerance.

  build/release/tests/parity/vl2_parity_table --summary reference cpu_avx512
)";

struct Options {
  bool summary = false, fullwidth = true;
  std::vector<std::string> backends;
};

struct Line {
  std::string name;
  CaseReport report;
};

std::string mark(const StageError& s) { return s.max_error <= s.tolerance ? "" : " **FAILED**"; }

// False if anything failed.
bool print(const std::string& title, const std::vector<Line>& lines, bool summary) {
  struct Worst {
    StageError stage;
    std::string where;
    int64_t values = 0;
  };
  std::map<std::string, Worst> worst;
  std::vector<std::string> order;
  int64_t ties = 0, forced = 0;
  bool passed = true;
  std::vector<std::string> failures;
  for (const Line& line : lines) {
    passed = passed && line.report.passed();
    ties += line.report.rows_behind_ties;
    forced += line.report.forced_steps;
    for (const std::string& failure : line.report.failures) failures.push_back(line.name + ": " + failure);
    for (const StageError& stage : line.report.stages) {
      Worst& w = worst[stage.stage];
      if (w.where.empty()) order.push_back(stage.stage);
      if (w.where.empty() || stage.max_error > w.stage.max_error) w = {stage, line.name, w.values};
      w.values += stage.values;
    }
  }
  fmt::print("### {}\n\n{} cases, {}. ", title, lines.size(), passed ? "all within tolerance" : "**FAILED**");
  fmt::print("{} rows behind near ties of experts were not compared, {} generation steps by teacher forcing.\n\n", ties,
             forced);
  for (const std::string& failure : failures) fmt::print("- **FAILED** {}\n", failure);
  fmt::print("| stage | largest error | tolerance | values | worst case |\n|---|---:|---:|---:|---|\n");
  for (const std::string& stage : order) {
    const Worst& w = worst[stage];
    fmt::print("| {} | {:.2e}{} | {:.1e} | {} | {} |\n", stage, w.stage.max_error, mark(w.stage), w.stage.tolerance,
               w.values, w.where);
  }
  fmt::print("\n");
  if (summary) return passed;
  fmt::print("| case | stage | largest error | tolerance |\n|---|---|---:|---:|\n");
  for (const Line& line : lines)
    for (const StageError& s : line.report.stages)
      fmt::print("| {} | {} | {:.2e}{} | {:.1e} |\n", line.name, s.stage, s.max_error, mark(s), s.tolerance);
  fmt::print("\n");
  return passed;
}

bool exact(const Backend& backend, const std::filesystem::path& golden, const Options& options) {
  std::vector<Line> lines;
  const SafetensorsFile tiles(golden / "tiles.safetensors");
  for (const GoldenModel& m : golden_models()) {
    const auto ops = backend.make();
    const auto model = load_model(golden / "models" / m.name, *ops);
    for (const std::string& name : m.cases)
      lines.push_back(
          {m.name + " " + name,
           compare_case(*model, SafetensorsFile(golden / "cases" / m.name / (name + ".safetensors")), &tiles)});
  }
  bool passed = print(backend.name, lines, options.summary);
  if (!options.fullwidth) return passed;
  lines.clear();
  for (const std::string& module : fullwidth_modules()) {
    for (const DType storage : {DType::kF32, DType::kBF16}) {
      const auto ops = backend.make();
      lines.push_back({fmt::format("{} {}", module, dtype_name(storage)),
                       run_fullwidth(*ops, storage, golden / "fullwidth", module)});
      for (StageError& s : lines.back().report.stages) s.stage = module + " " + s.stage;
    }
  }
  return print(backend.name + ", modules at real dimensions", lines, options.summary) && passed;
}

void rounding(const Backend& backend, const std::filesystem::path& golden) {
  fmt::print("### {}\n\n", backend.name);
  fmt::print(
      "Logits of b_small_mla_bf16 against float32 arithmetic; the official modules in bf16: rms 0.05 to 0.08, "
      "largest 1.05, agreement 92 to 98 %.\n\n");
  fmt::print("| case | rms error | largest error | same largest logit |\n|---|---:|---:|---:|\n");
  const SafetensorsFile tiles(golden / "tiles.safetensors");
  const auto ops = backend.make();
  const auto model = load_model(golden / "models/b_small_mla_bf16", *ops);
  for (const char* name : {"text", "img11"}) {
    const SafetensorsFile file(golden / "cases/b_small_mla_bf16" / (std::string(name) + ".safetensors"));
    const LogitsNoise noise = logits_noise(*model, file, &tiles);
    fmt::print("| {} | {:.4f} | {:.3f} | {:.1f} % of {} |\n", name, noise.rms, noise.max, 100 * noise.agreement,
               noise.rows);
  }
  fmt::print("\n");
}

int run(const Options& options) {
  const auto shared = shared_folder(source_dir());
  if (!shared) fail(ErrorCode::kNotFound, "the golden data is not here; set VL2_SHARED to its folder");
  bool passed = true;
  for (const std::string& name : options.backends) {
    const Backend& b = backend(name);
    if (b.rounds) {
      rounding(b, *shared / "golden");
    } else {
      passed = exact(b, *shared / "golden", options) && passed;
    }
    std::fflush(stdout);
  }
  return passed ? 0 : 1;
}

}  // namespace
}  // namespace vl2::parity

int main(int argc, char** argv) {
  try {
    vl2::parity::Options options;
    for (int i = 1; i < argc; ++i) {
      const std::string arg = argv[i];
      if (arg == "--summary") {
        options.summary = true;
      } else if (arg == "--no-fullwidth") {
        options.fullwidth = false;
      } else if (arg.starts_with("-")) {
        fmt::print(arg == "--help" || arg == "-h" ? stdout : stderr, "{}", vl2::parity::kUsage);
        return arg == "--help" || arg == "-h" ? 0 : 2;
      } else {
        options.backends.push_back(arg);
      }
    }
    if (options.backends.empty())
      for (const auto* list : {&vl2::parity::backends(), &vl2::parity::rounding_backends()})
        for (const vl2::parity::Backend& b : *list) options.backends.push_back(b.name);
    return vl2::parity::run(options);
  } catch (const vl2::Error& error) {
    fmt::print(stderr, "vl2_parity_table: {}\n", error.what());
    return 1;
  }
}
