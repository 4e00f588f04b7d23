#include "apps/cli/bench_compare.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "apps/cli/bench_text.h"
#include "core/base/file.h"
#include "core/base/json.h"

namespace vl2::cli {
namespace {

constexpr size_t kMostReportBytes = size_t{64} << 20;
constexpr int64_t kMostTokens = int64_t{1} << 40;
constexpr double kMostSeconds = 1e9;

// A key that must be there.
const nlohmann::json& member(const JsonObject& object, const std::string& key) {
  const nlohmann::json* found = object.find(key);
  if (found == nullptr)
    fail(ErrorCode::kCorrupt, "{} is missing; is this a report of vl2 bench --json of this version?", object.name(key));
  return *found;
}

std::string text(const JsonObject& object, const std::string& key) {
  member(object, key);
  return object.string(key, "");
}

double positive(const JsonObject& object, const std::string& key) {
  member(object, key);
  return object.number(key, 0, 1e-12, kMostSeconds);
}

BenchResult read_result(const JsonObject& saved) {
  BenchResult result;
  result.work = text(saved, "work");
  result.count = saved.integer(result.work == "vision" ? "tiles" : "tokens", 1, 1, kMostTokens);
  result.context = saved.integer("context", 0, 0, kMostTokens);
  result.batch = saved.integer("batch", 1, 1, kMostTokens);
  result.time = {positive(saved, "median_s"), positive(saved, "min_s"), positive(saved, "max_s")};
  result.share.median = saved.number("share", 0, 0, kMostSeconds);
  return result;
}

auto same_work(const BenchResult& r) {
  // Steps of a repeat do not change what one step takes.
  return std::make_tuple(r.work, r.work == "decode" ? 0 : r.count, r.context, r.batch);
}

std::string subject(const SavedBench& saved) {
  return fmt::format("{}, {} layers", saved.report.subject, saved.report.layers);
}
std::string machine(const SavedBench& saved) {
  return fmt::format("{}, {} threads", saved.report.processor, saved.report.threads);
}

void check_same(const char* what, const SavedBench& a, const SavedBench& b, const std::string& in_a,
                const std::string& in_b) {
  if (in_a == in_b) return;
  fail(ErrorCode::kInvalidArgument, "{} is of {} \"{}\", {} of \"{}\"; --force compares them all the same", a.file,
       what, in_a, b.file, in_b);
}

const BenchResult* find_result(const SavedBench& saved, const BenchResult& like) {
  for (const BenchResult& result : saved.report.results)
    if (same_work(result) == same_work(like)) return &result;
  return nullptr;
}

std::string header(const char* name, const SavedBench& saved) {
  return fmt::format("{}  {}: {}, {}\n   {}; {}\n", name, saved.file, subject(saved), saved.report.format,
                     saved.report.processor, saved.report.description);
}

std::string verdict(const BenchChange& change) {
  if (!change.differs()) return "no difference";
  return change.ratio() > 1 ? "B is faster" : "A is faster";
}

std::string only_in(const char* name, const SavedBench& saved, const SavedBench& other) {
  std::vector<std::string> names;
  for (const BenchResult& result : saved.report.results)
    if (find_result(other, result) == nullptr) names.push_back(what_was_done(result));
  return names.empty() ? "" : fmt::format("only in {}: {}\n", name, fmt::join(names, "; "));
}

}  // namespace

SavedBench read_bench(const std::filesystem::path& file) {
  const nlohmann::json document = parse_json(read_file(file, kMostReportBytes), file.string());
  const JsonObject top(document, file.string());
  const JsonObject machine(member(top, "machine"), file.string(), "machine");
  SavedBench saved{file.string(), {}};
  BenchReport& report = saved.report;
  report.subject = text(top, "subject");
  report.layers = top.integer("layers", 0, 0, kMostTokens);
  report.format = text(top, "format");
  report.description = text(top, "runs_on");
  report.processor = text(machine, "processor");
  report.threads = static_cast<int>(machine.integer("threads", 0, 0, 1 << 20));
  const nlohmann::json& results = member(top, "results");
  if (!results.is_array()) top.reject("results", "a list");
  for (size_t i = 0; i < results.size(); ++i)
    report.results.push_back(read_result(JsonObject(results[i], file.string(), fmt::format("results.{}", i))));
  return saved;
}

std::vector<BenchChange> compare_bench(const SavedBench& a, const SavedBench& b, bool force) {
  if (!force) {
    check_same("the model", a, b, subject(a), subject(b));
    check_same("the machine", a, b, machine(a), machine(b));
  }
  std::vector<BenchChange> changes;
  for (const BenchResult& result : a.report.results)
    if (const BenchResult* other = find_result(b, result)) changes.push_back({&result, other});
  if (changes.empty())
    fail(ErrorCode::kInvalidArgument, "{} and {} measured no work of the same kind and amount", a.file, b.file);
  return changes;
}

std::string compare_text(const SavedBench& a, const SavedBench& b, const std::vector<BenchChange>& changes) {
  std::string text = header("A", a) + header("B", b);
  text += fmt::format("\n{:<26} {:>21} {:>21} {:>6}  {}\n", "work", "A", "B", "A / B", "shares");
  for (const BenchChange& change : changes)
    text += fmt::format("{:<26} {:>21} {:>21} {:>6.2f}  {:.2f}, {:.2f}  {}\n", what_was_done(*change.a),
                        time_text(change.a->time), time_text(change.b->time), change.ratio(), change.a->share.median,
                        change.b->share.median, verdict(change));
  text += "\nA / B above 1: B is faster. \"no difference\": their repeats overlap.\n";
  return text + only_in("A", a, b) + only_in("B", b, a);
}

std::string compare_json(const SavedBench& a, const SavedBench& b, const std::vector<BenchChange>& changes) {
  using Json = nlohmann::ordered_json;
  const auto side = [](const SavedBench& saved) -> Json {
    return {{"file", saved.file},
            {"subject", saved.report.subject},
            {"format", saved.report.format},
            {"runs_on", saved.report.description}};
  };
  Json rows = Json::array();
  for (const BenchChange& change : changes)
    rows.push_back({{"work", what_was_done(*change.a)},
                    {"a_s", change.a->time.median},
                    {"b_s", change.b->time.median},
                    {"ratio", change.ratio()},
                    {"differs", change.differs()},
                    {"a_share", change.a->share.median},
                    {"b_share", change.b->share.median}});
  return Json{{"a", side(a)}, {"b", side(b)}, {"changes", rows}}.dump(2) + "\n";
}

}  // namespace vl2::cli
