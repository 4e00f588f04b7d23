#include "train/input/loader_state.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"

namespace vl2::train {
namespace {

using nlohmann::json;

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

const json& list_of(const JsonObject& object, const std::string& key) {
  const json* list = object.find(key);
  if (list == nullptr || !list->is_array()) object.reject(key, "a list");
  return *list;
}

int64_t count_of(const JsonObject& object, const std::string& key, int64_t high = kMax) {
  if (!object.has(key)) object.reject(key, "a number");
  return object.integer(key, 0, 0, high);
}

json report_json(const InputReport& report) {
  json out = {{"shortened", report.shortened}, {"counts", json::object()}, {"listed", json::array()}};
  for (int k = 0; k < kNumProblemKinds; ++k)
    out["counts"][std::string(problem_name(static_cast<ProblemKind>(k)))] = report.counts[static_cast<size_t>(k)];
  for (const Problem& problem : report.listed)
    out["listed"].push_back(
        {{"kind", problem_name(problem.kind)}, {"where", problem.where}, {"reason", problem.reason}});
  return out;
}

InputReport parse_report(const json& value, const std::string& where) {
  const JsonObject object(value, where, "report");
  InputReport report;
  report.shortened = count_of(object, "shortened");
  if (!object.has("counts")) object.reject("counts", "an object");
  const JsonObject counts(*object.find("counts"), where, "report.counts");
  for (int k = 0; k < kNumProblemKinds; ++k)
    report.counts[static_cast<size_t>(k)] = count_of(counts, std::string(problem_name(static_cast<ProblemKind>(k))));
  for (const json& one : list_of(object, "listed")) {
    const JsonObject fields(one, where, "report.listed");
    Problem problem{ProblemKind::kRecord, fields.string("where", ""), fields.string("reason", "")};
    const std::string name = fields.string("kind", "");
    int kind = 0;
    while (kind < kNumProblemKinds && problem_name(static_cast<ProblemKind>(kind)) != name) ++kind;
    if (kind == kNumProblemKinds) fields.reject("kind", "the kind of a problem");
    problem.kind = static_cast<ProblemKind>(kind);
    report.listed.push_back(std::move(problem));
  }
  return report;
}

}  // namespace

int64_t InputReport::total() const { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

void InputReport::add(const Problem& problem, size_t max_listed) {
  ++counts[static_cast<size_t>(problem.kind)];
  if (listed.size() < max_listed) listed.push_back(problem);
}

std::string InputReport::text() const {
  std::string out;
  if (total() > 0) {
    out += fmt::format("{} record{} left out:", total(), total() == 1 ? "" : "s");
    for (size_t k = 0; k < counts.size(); ++k)
      if (counts[k] > 0) out += fmt::format(" {} {}", counts[k], problem_name(static_cast<ProblemKind>(k)));
    out += "\n";
    for (const Problem& problem : listed)
      out += fmt::format("  {}: {}: {}\n", problem.where, problem_name(problem.kind), problem.reason);
    const int64_t more = total() - static_cast<int64_t>(listed.size());
    if (more > 0) out += fmt::format("  and {} more\n", more);
  }
  if (shortened > 0) out += fmt::format("{} sample{} shortened to fit\n", shortened, shortened == 1 ? "" : "s");
  return out;
}

std::string to_json(const LoaderState& state) {
  json out = {{"version", 1},
              {"seed", state.seed},
              {"batches", state.batches},
              {"records", state.records},
              {"sources", json::array()},
              {"waiting", json::array()},
              {"report", report_json(state.report)}};
  for (const SourceState& s : state.sources)
    out["sources"].push_back(
        {{"epoch", s.epoch}, {"position", s.position}, {"tokens", s.tokens}, {"usable", s.usable}});
  for (const Draw& d : state.waiting) out["waiting"].push_back(json::array({d.source, d.epoch, d.position}));
  return out.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
}

LoaderState parse_loader_state(std::string_view text, const std::string& where) {
  const json root = parse_json(text, where);
  const JsonObject object(root, where);
  if (count_of(object, "version") != 1) object.reject("version", "1", ErrorCode::kUnsupported);
  LoaderState state;
  const json* seed = object.find("seed");
  if (seed == nullptr || !seed->is_number_unsigned()) object.reject("seed", "a number from 0");
  state.seed = seed->get<uint64_t>();
  state.batches = count_of(object, "batches");
  for (const json& records : list_of(object, "records")) {
    const json entry = {{"records", records}};
    state.records.push_back(count_of(JsonObject(entry, where), "records"));
  }
  for (const json& source : list_of(object, "sources")) {
    const JsonObject fields(source, where, "sources");
    state.sources.push_back({count_of(fields, "epoch"), count_of(fields, "position"), count_of(fields, "tokens"),
                             count_of(fields, "usable")});
  }
  for (const json& draw : list_of(object, "waiting")) {
    if (!draw.is_array() || draw.size() != 3) object.reject("waiting", "lists of source, epoch and position");
    const json entry = {{"source", draw[0]}, {"epoch", draw[1]}, {"position", draw[2]}};
    const JsonObject fields(entry, where, "waiting");
    state.waiting.push_back({count_of(fields, "source"), count_of(fields, "epoch"), count_of(fields, "position")});
  }
  if (!object.has("report")) object.reject("report", "an object");
  state.report = parse_report(*object.find("report"), where);
  return state;
}

}  // namespace vl2::train
