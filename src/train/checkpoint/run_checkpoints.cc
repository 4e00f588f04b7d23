#include "train/checkpoint/run_checkpoints.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/folder_files.h"
#include "core/checkpoint/lora.h"
#include "train/checkpoint/durable.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kPrefix = "step-";
constexpr const char* kManifest = "checkpoint.json";
constexpr const char* kStateTensors = "state.safetensors";
constexpr const char* kStateJson = "state.json";
constexpr const char* kLatest = "latest";
constexpr std::string_view kHidden = ".writing-";  // then the process, the name it will have
constexpr size_t kMaxJsonBytes = size_t{64} << 20;

std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (name.empty() || error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
  return step;
}

// The process that writes a hidden folder; nullopt: not such a name.
std::optional<pid_t> writer_of(std::string_view name) {
  if (!name.starts_with(kHidden)) return std::nullopt;
  name.remove_prefix(kHidden.size());
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc() || end == name.data()) return std::nullopt;
  return pid;
}

json manifest_of(int64_t step, const fs::path& folder) {
  json files = json::object();
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) files[entry.path().filename().string()] = entry.file_size();
  return {{"format", 1}, {"step", step}, {"files", std::move(files)}};
}

// kCorrupt or kNotFound unless every file is there in its size.
void check_whole(const fs::path& folder, int64_t step) {
  const fs::path file = folder / kManifest;
  const json root = parse_json(read_file(file, kMaxJsonBytes), file.string());
  const JsonObject object(root, file.string());
  if (object.integer("format", 0, 0, 1 << 20) != 1) object.reject("format", "1");
  if (object.integer("step", -1, -1, INT64_MAX) != step) object.reject("step", fmt::format("{}", step));
  const json* files = object.find("files");
  if (files == nullptr || !files->is_object() || !files->contains(kStateJson) || !files->contains(kStateTensors))
    object.reject("files", "an object with the size of every file");
  for (const auto& [name, size] : files->items()) {
    // A name with a path could point anywhere.
    if (name.empty() || name.find('/') != name.npos || !size.is_number_unsigned())
      object.reject("files", "names of files and their sizes");
    std::error_code error;
    const uintmax_t found = fs::file_size(folder / name, error);
    if (error) fail(ErrorCode::kNotFound, "{}: {}", (folder / name).string(), error.message());
    if (found != size.get<uint64_t>())
      fail(ErrorCode::kCorrupt, "{}: has {} bytes, expected {}", (folder / name).string(), found, size.get<uint64_t>());
  }
}

void check_architecture(const fs::path& folder, const ModelConfig& found, const ModelConfig& expected) {
  const std::vector<std::string> differences = config_differences(found, expected);
  if (differences.empty()) return;
  fail(ErrorCode::kInvalidArgument,
       "{}: is a checkpoint of another architecture than this run trains: {}; name another "
       "output folder, or the model it belongs to",
       folder.string(), fmt::join(differences, "; "));
}

}  // namespace

std::vector<std::string> config_differences(const ModelConfig& found, const ModelConfig& expected) {
  const json a = json::parse(model_config_json(found)).flatten(),
             b = json::parse(model_config_json(expected)).flatten();
  std::vector<std::string> differences;
  const auto dotted = [](std::string key) {
    key.erase(0, 1);
    std::replace(key.begin(), key.end(), '/', '.');
    return key;
  };
  for (const auto& [key, value] : b.items()) {
    if (key.ends_with("torch_dtype")) continue;  // how it is stored is no matter of architecture
    const auto other = a.find(key);
    if (other == a.end() || *other != value)
      differences.push_back(fmt::format("{} is {}, expected {}", dotted(key),
                                        other == a.end() ? "missing" : describe_json(*other), describe_json(value)));
  }
  for (const auto& [key, value] : a.items())
    if (!b.contains(key))
      differences.push_back(fmt::format("{} is {}, expected none", dotted(key), describe_json(value)));
  return differences;
}

void write_model_files(const fs::path& folder, const ModelConfig& config, std::span<const TensorHeader> headers,
                       const FillTensor& fill) {
  write_sharded(folder, headers, fill);
  write_file_atomic(folder / "config.json", model_config_json(config));
}

RunCheckpoints::RunCheckpoints(fs::path run, int64_t keep) : run_(std::move(run)), keep_(keep) {
  VL2_CHECK(keep_ >= 1, "keep {} checkpoints", keep_);
}

fs::path RunCheckpoints::folder_of(int64_t step) const { return run_ / fmt::format("{}{:06}", kPrefix, step); }

std::vector<int64_t> RunCheckpoints::steps() const {
  std::vector<int64_t> steps;
  std::error_code error;
  for (fs::directory_iterator entry(run_, error), end; !error && entry != end; entry.increment(error))
    if (const auto step = step_of(entry->path().filename().string())) steps.push_back(*step);
  std::sort(steps.begin(), steps.end());
  return steps;
}

void RunCheckpoints::write(int64_t step, const CheckpointContent& content) {
  VL2_CHECK(step >= 0, "step {}", step);
  make_folders(run_);
  delete_leftovers();
  const fs::path target = folder_of(step);
  const fs::path hidden = run_ / fmt::format("{}{}-{}", kHidden, ::getpid(), target.filename().string());
  const FolderGuard guard(hidden);
  try {
    make_folders(hidden);
    content.write_model(hidden);
    if (!content.files_from.empty()) copy_other_files(content.files_from, hidden, true);
    write_safetensors(hidden / kStateTensors, content.tensors);
    write_file_atomic(hidden / kStateJson, content.state_json);
    write_file_atomic(hidden / kManifest, manifest_of(step, hidden).dump(2) + "\n");
    sync_files(hidden);
    put_in_place(hidden, target);
  } catch (const Error& error) {
    fail(error.code(), "the checkpoint of step {} was not written, those before it are untouched: {}", step,
         error.what());
  } catch (const fs::filesystem_error& error) {
    fail(ErrorCode::kIo, "the checkpoint of step {} was not written, those before it are untouched: {}", step,
         error.what());
  }
  sync_folder(run_);
  replace_latest(step);
  delete_old(step);
}

void RunCheckpoints::replace_latest(int64_t step) const {
  const fs::path link = run_ / fmt::format("{}{}-{}", kHidden, ::getpid(), kLatest);
  std::error_code error;
  fs::remove_all(link, error);
  fs::create_symlink(folder_of(step).filename(), link, error);
  if (!error) fs::rename(link, run_ / kLatest, error);
  if (error)
    fail(ErrorCode::kIo, "{}: cannot point it at the checkpoint of step {}: {}", (run_ / kLatest).string(), step,
         error.message());
  sync_folder(run_);
}

void RunCheckpoints::delete_old(int64_t newest) const {
  std::vector<int64_t> old = steps();
  // Steps beyond the one just written are of a run that was taken back: they go first.
  std::stable_partition(old.begin(), old.end(), [newest](int64_t step) { return step > newest; });
  std::error_code ignored;
  for (size_t i = 0; i + static_cast<size_t>(keep_) < old.size(); ++i) {
    // Under another name first: half a deleted checkpoint must not look like one.
    const fs::path gone = run_ / fmt::format("{}{}-old", kHidden, ::getpid());
    fs::rename(folder_of(old[i]), gone, ignored);
    fs::remove_all(gone, ignored);
  }
}

// What a process that was killed left half written.
void RunCheckpoints::delete_leftovers() const {
  std::error_code error, ignored;
  std::vector<fs::path> gone;
  for (fs::directory_iterator entry(run_, error), end; !error && entry != end; entry.increment(error)) {
    const auto writer = writer_of(entry->path().filename().string());
    if (writer && (*writer == ::getpid() || (::kill(*writer, 0) != 0 && errno == ESRCH))) gone.push_back(entry->path());
  }
  for (const fs::path& path : gone) fs::remove_all(path, ignored);
}

std::optional<int64_t> RunCheckpoints::latest_step() const {
  std::error_code error;
  const fs::path target = fs::read_symlink(run_ / kLatest, error);
  if (error) return std::nullopt;
  return step_of(target.filename().string());
}

std::optional<LoadedCheckpoint> RunCheckpoints::load(const ModelConfig& expected,
                                                     const std::function<void(const std::string&)>& warn) const {
  std::vector<int64_t> order = steps();
  std::reverse(order.begin(), order.end());
  if (const auto latest = latest_step()) {
    const auto at = std::find(order.begin(), order.end(), *latest);
    if (at != order.end()) {
      std::rotate(order.begin(), at, at + 1);
    } else if (warn) {
      warn(fmt::format("{} names a checkpoint of step {} that is not there", (run_ / kLatest).string(), *latest));
    }
  }
  if (order.empty()) return std::nullopt;
  for (const int64_t step : order) {
    LoadedCheckpoint loaded;
    loaded.folder = folder_of(step);
    loaded.step = step;
    std::optional<ModelConfig> config;
    try {
      check_whole(loaded.folder, step);
      loaded.state_json = read_file(loaded.folder / kStateJson, kMaxJsonBytes);
      parse_json(loaded.state_json, (loaded.folder / kStateJson).string());
      loaded.tensors = std::make_unique<SafetensorsFile>(loaded.folder / kStateTensors);
      std::error_code ignored;
      if (fs::exists(loaded.folder / "adapter_config.json", ignored)) {
        const LoraAdapter adapter(loaded.folder);
      } else {
        config = load_model_config(loaded.folder / "config.json");
        Checkpoint(loaded.folder).check(*config);
      }
    } catch (const Error& error) {
      if (warn) warn(fmt::format("the checkpoint of step {} is broken and passed over: {}", step, error.what()));
      continue;
    }
    if (config) check_architecture(loaded.folder, *config, expected);
    return loaded;
  }
  fail(ErrorCode::kCorrupt, "{}: none of its {} checkpoints is whole; start again in another folder", run_.string(),
       order.size());
}

}  // namespace vl2::train
