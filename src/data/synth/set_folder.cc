#include "data/synth/set_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/thread_pool.h"
#include "core/image/encode.h"

namespace vl2::data::synth {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int kVersion = 1;       // of what the same options mean
constexpr int64_t kChunk = 2048;  // records between two points an interrupted run goes on from
constexpr int64_t kImagesPerFolder = 1000;

std::string split_name(Split split) { return split == Split::kTrain ? "train" : "test"; }

std::string stage_name(Stage stage) {
  return stage == Stage::kAlignment ? "alignment" : stage == Stage::kPretraining ? "pretraining" : "sft";
}

ordered_json manifest_of(const SetOptions& options, const std::vector<std::string>& fonts) {
  const MakerOptions& maker = options.maker;
  ordered_json weights = ordered_json::object();
  for (size_t i = 0; i < kNumSkills; ++i)
    if (maker.weights[i] > 0) weights[std::string(skill_name(static_cast<Skill>(i)))] = maker.weights[i];
  return {{"maker", "vl2 data synth nano"},
          {"version", kVersion},
          {"split", split_name(maker.split)},
          {"seed", maker.seed},
          {"records", options.records},
          {"stage", stage_name(maker.stage)},
          {"tile", maker.tile},
          {"questions", maker.one_question ? "one" : "many"},
          {"chinese_share", maker.chinese_share},
          {"skills", std::move(weights)},
          {"fonts", fonts}};
}

struct Made {
  std::string line;
  int64_t questions = 0, pictures = 0;
  uint64_t bytes = 0;
};

// Not write_file_atomic: a sync for every small picture would take longer than drawing it. The chunk is what is atomic.
void write_picture(const fs::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) fail(ErrorCode::kIo, "{}: cannot be written; is the disk full?", path.string());
}

class SetWriter {
 public:
  SetWriter(const fs::path& folder, const SetOptions& options) : folder_(folder), options_(options) {
    const int threads = options.threads > 0 ? options.threads : ThreadPool::default_num_threads();
    for (int i = 0; i < threads; ++i) makers_.push_back(std::make_unique<RecordMaker>(options.maker));
    report_.fonts = makers_.front()->faces().names();
    report_.has_chinese_font = makers_.front()->faces().has_chinese();
    report_.records_file = folder_ / (split_name(options.maker.split) + ".jsonl");
    part_ = report_.records_file;
    part_ += ".part";
    manifest_ = manifest_of(options, report_.fonts);
  }

  SetReport run() {
    const int64_t start = prepare();
    report_.resumed_at = start;
    ThreadPool pool(static_cast<int>(makers_.size()));
    bool go_on = true;
    for (int64_t first = start; first < options_.records && go_on; first += kChunk) {
      const int64_t end = std::min(first + kChunk, options_.records);
      make_chunk(pool, first, end);
      if (options_.progress) go_on = options_.progress(end, options_.records);
      report_.records = end;
    }
    report_.records = std::max(report_.records, start);
    if (report_.whole || report_.records < options_.records) return report_;
    fs::rename(part_, report_.records_file);
    write_manifest(true);
    report_.whole = true;
    return report_;
  }

 private:
  void write_manifest(bool whole) const {
    ordered_json manifest = manifest_;
    manifest["whole"] = whole;
    write_file_atomic(folder_ / "synth.json", manifest.dump(2) + "\n");
  }

  // The record to begin with.
  int64_t prepare() {
    std::error_code error;
    if (fs::exists(folder_, error) && !fs::is_directory(folder_, error))
      fail(ErrorCode::kInvalidArgument, "{}: is a file; name a folder", folder_.string());
    const bool filled = fs::is_directory(folder_, error) && !fs::is_empty(folder_, error);
    const bool is_set = fs::is_regular_file(folder_ / "synth.json", error);
    if (filled && !is_set)
      fail(ErrorCode::kInvalidArgument, "{}: is not empty and no synthetic set; name a new folder", folder_.string());
    if (filled && !options_.replace) return resume();
    error.clear();  // of looking at what is not there
    if (filled) fs::remove_all(folder_, error);
    if (!error) fs::create_directories(folder_ / "images", error);
    if (error) fail(ErrorCode::kIo, "{}: cannot be made: {}", folder_.string(), error.message());
    write_manifest(false);
    return 0;
  }

  int64_t resume() {
    const fs::path path = folder_ / "synth.json";
    const nlohmann::json there = parse_json(read_file(path, size_t{1} << 20), path.string());
    ordered_json wanted = manifest_;
    const bool whole = there.is_object() && there.value("whole", nlohmann::json(true)) != false;
    wanted["whole"] = whole;
    if (there != nlohmann::json(wanted))
      fail(ErrorCode::kInvalidArgument,
           "{}: has {} of other options or fonts in it; name a new folder, or use --replace to delete it",
           folder_.string(), whole ? "a finished set" : "the beginning of a set");
    return whole ? count_finished() : count_whole_chunks();
  }

  // Nothing is left to do.
  int64_t count_finished() {
    std::ifstream file(report_.records_file, std::ios::binary);
    int64_t lines = 0;
    for (std::string line; std::getline(file, line); ++lines)
      if (!add_up(line, report_.questions, report_.pictures)) break;
    if (lines != options_.records)
      fail(ErrorCode::kCorrupt, "{}: has {} records that can be read, expected {}; use --replace to make the set again",
           report_.records_file.string(), lines, options_.records);
    report_.whole = true;
    return lines;
  }

  // False: a line that is no record.
  static bool add_up(const std::string& line, int64_t& questions, int64_t& pictures) {
    const auto record = nlohmann::json::parse(line, nullptr, false);
    if (!record.is_object() || !record.contains("messages")) return false;
    questions += static_cast<int64_t>(record["messages"].size()) / 2;
    pictures += record.contains("images") ? static_cast<int64_t>(record["images"].size()) : 0;
    return true;
  }

  // Lines of whole chunks stay, what follows them is cut off.
  int64_t count_whole_chunks() {
    std::error_code error;
    if (!fs::exists(part_, error)) return 0;
    std::ifstream file(part_, std::ios::binary);
    std::string line;
    int64_t lines = 0, kept_lines = 0;
    uint64_t bytes = 0, kept_bytes = 0;
    std::vector<std::string> chunk;
    int64_t questions = 0, pictures = 0;
    while (std::getline(file, line) && !file.eof()) {
      bytes += line.size() + 1;
      if (!add_up(line, questions, pictures)) break;
      if (++lines % kChunk != 0 && lines != options_.records) continue;
      kept_lines = lines;
      kept_bytes = bytes;
      report_.questions = questions;
      report_.pictures = pictures;
      if (lines == options_.records) break;
    }
    file.close();
    fs::resize_file(part_, kept_bytes, error);
    if (error) fail(ErrorCode::kIo, "{}: cannot be cut to its whole part: {}", part_.string(), error.message());
    return kept_lines;
  }

  void make_chunk(ThreadPool& pool, int64_t first, int64_t end) {
    for (int64_t i = first / kImagesPerFolder; i <= (end - 1) / kImagesPerFolder; ++i) {
      std::error_code error;
      fs::create_directories(folder_ / image_folder(i), error);
      if (error) fail(ErrorCode::kIo, "{}: cannot be made: {}", (folder_ / image_folder(i)).string(), error.message());
    }
    std::vector<Made> made(static_cast<size_t>(end - first));
    pool.parallel_for(end - first, [&](int64_t task, int thread) {
      made[static_cast<size_t>(task)] = make_one(*makers_[static_cast<size_t>(thread)], first + task);
    });
    sync_disk();  // the pictures are there before a line says so
    std::string lines;
    for (const Made& m : made) {
      lines += m.line;
      lines += '\n';
      report_.questions += m.questions;
      report_.pictures += m.pictures;
      report_.picture_bytes += m.bytes;
    }
    std::ofstream file(part_, std::ios::binary | std::ios::app);
    file.write(lines.data(), static_cast<std::streamsize>(lines.size()));
    file.close();
    if (!file) fail(ErrorCode::kIo, "{}: cannot be written; is the disk full?", part_.string());
  }

  static std::string image_folder(int64_t number) { return fmt::format("images/{:03}", number); }

  Made make_one(RecordMaker& maker, int64_t index) const {
    const Record record = maker.make(index);
    Made made;
    std::vector<std::string> paths;
    for (size_t i = 0; i < record.images.size(); ++i) {
      paths.push_back(fmt::format("{}/{:07}{}.png", image_folder(index / kImagesPerFolder), index, i == 0 ? "" : "b"));
      const std::string png = encode_png(record.images[i], PngEffort::kFast);
      made.bytes += png.size();
      write_picture(folder_ / paths.back(), png);
    }
    made.line = record_line(record, fmt::format("{}-{:07}", split_name(options_.maker.split), index), paths);
    made.questions = std::ssize(record.turns);
    made.pictures = std::ssize(record.images);
    return made;
  }

  void sync_disk() const {
    const int fd = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    ::syncfs(fd);
    ::close(fd);
  }

  const fs::path folder_;
  const SetOptions& options_;
  std::vector<std::unique_ptr<RecordMaker>> makers_;  // one a thread
  fs::path part_;
  ordered_json manifest_;
  SetReport report_;
};

}  // namespace

SetReport write_set(const fs::path& folder, const SetOptions& options) {
  if (options.records < 1 || options.records > 100'000'000)
    fail(ErrorCode::kInvalidArgument, "{} records, expected 1 to 100000000", options.records);
  if (options.threads < 0 || options.threads > 1024)
    fail(ErrorCode::kInvalidArgument, "{} threads, expected 1 to 1024", options.threads);
  return SetWriter(folder, options).run();
}

}  // namespace vl2::data::synth
