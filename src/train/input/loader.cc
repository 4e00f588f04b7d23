#include "train/input/loader.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>

#include "core/base/error.h"
#include "train/input/loader_parts.h"
#include "train/input/packing.h"

namespace vl2::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPlannedAhead = 32;  // records of each source

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

class Loader::Impl {
 public:
  Impl(std::shared_ptr<const Processor> processor, LoaderOptions options, const LoaderState* resume)
      : processor_(std::move(processor)), options_(std::move(options)) {
    check_options(options_);
    open_sources(resume == nullptr);
    look_ahead_ = options_.packing ? options_.look_ahead : 1;
    if (resume != nullptr)
      restore(*resume);
    else
      state_.sources = mixture_->state();
    try {
      for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { work(); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Impl() { stop(); }

  std::optional<MicroBatch> next() {
    const Clock::time_point begin = Clock::now();
    std::unique_lock lock(mutex_);
    while (true) {
      while (queue_.empty() || !queue_.front()->ready) {
        if (broken_) std::rethrow_exception(broken_);
        if (options_.threads == 0)
          VL2_CHECK(work_once(lock), "no batch and nothing to do");
        else
          batch_ready_.wait(lock);
      }
      Batch& front = *queue_.front();
      if (front.failure) std::rethrow_exception(front.failure);
      for (const Problem& problem : std::exchange(front.problems, {})) state_.report.add(problem, options_.max_listed);
      state_.report.shortened += std::exchange(front.shortened, 0);
      state_.sources = front.sources;
      state_.waiting = std::move(front.waiting);
      if (front.end) return std::nullopt;
      const std::unique_ptr<Batch> batch = std::move(queue_.front());
      queue_.pop_front();
      work_to_do_.notify_all();
      if (batch->result.num_samples() == 0) continue;  // none of its pictures could be read
      ++state_.batches;
      count(batch->result, begin);
      return std::move(batch->result);
    }
  }

  const LoaderState& state() const { return state_; }
  LoaderStats stats() const {
    LoaderStats stats = stats_;
    if (stats.rows > 0)
      stats.fill = static_cast<double>(stats.tokens) / static_cast<double>(stats.rows * options_.sample.max_length);
    if (stats.batches > 0) stats.elapsed_seconds = seconds(Clock::now() - first_batch_);
    return stats;
  }

 private:
  void open_sources(bool first_time) {
    std::vector<MixtureSource> mixed;
    for (const SourceOptions& source : options_.sources) {
      DatasetFile file(source.file, {.format = source.format, .image_root = source.image_root});
      if (file.size() > 0) {
        mixed.push_back({file.size(), source.weight});
        state_.records.push_back(file.size());
        files_.push_back(std::move(file));
        continue;
      }
      const Problem problem{ProblemKind::kRecord, source.file.string(), "the source holds no record"};
      if (options_.bad_records == Policy::kRefuse) std::rethrow_exception(refusal(problem));
      if (first_time) state_.report.add(problem, options_.max_listed);
    }
    if (mixed.empty())
      fail(ErrorCode::kInvalidArgument,
           "nothing to train on: {} sources, none with a record; give a file that has some", options_.sources.size());
    mixture_.emplace(std::move(mixed),
                     MixtureOptions{.seed = options_.seed, .shuffle = options_.shuffle, .epochs = options_.epochs});
    state_.seed = options_.seed;
    ahead_.resize(files_.size());
    last_problem_.resize(files_.size());
  }

  void restore(const LoaderState& saved) {
    if (saved.seed != options_.seed)
      fail(ErrorCode::kInvalidArgument,
           "the saved position is of seed {}, but the seed is {}: resume with the same one", saved.seed, options_.seed);
    if (saved.records != state_.records)
      fail(ErrorCode::kInvalidArgument,
           "the saved position is of sources of {} records, but they have {}: resume with the same files",
           fmt::join(saved.records, ", "), fmt::join(state_.records, ", "));
    mixture_->restore(saved.sources);
    for (const Draw& draw : saved.waiting) {
      const bool known = draw.source >= 0 && draw.source < mixture_->num_sources() && draw.epoch >= 0 &&
                         draw.position >= 0 && draw.position < state_.records[static_cast<size_t>(draw.source)];
      if (!known)
        fail(ErrorCode::kInvalidArgument, "the saved position names record {} of source {}, which there is not",
             draw.position, draw.source);
      Slot slot;
      slot.draw = draw;
      slot.again = true;
      again_.push_back(std::move(slot));
    }
    state_ = saved;
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_to_do_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  void work() {
    std::unique_lock lock(mutex_);
    try {
      while (!stopping_)
        if (!work_once(lock)) work_to_do_.wait(lock);
    } catch (...) {  // out of memory between two pieces of work, where the lock is held
      broken_ = std::current_exception();
      batch_ready_.notify_all();
    }
  }

  // One piece of work, the lock given up meanwhile. False: there is none at the moment.
  bool work_once(std::unique_lock<std::mutex>& lock) {
    const bool mixed = mix();
    if (mixed) {
      work_to_do_.notify_all();
      batch_ready_.notify_all();
    }
    for (const std::unique_ptr<Batch>& batch : queue_) {
      if (batch->next < batch->with_pictures.size()) {
        load(*batch, batch->samples[batch->with_pictures[batch->next++]], lock);
        return true;
      }
      if (batch->unfinished == 0 && !batch->assembling && !batch->ready) {
        finish(*batch, lock);
        return true;
      }
    }
    Slot* slot = slot_to_plan();
    if (slot == nullptr) return mixed;
    slot->taken = true;
    lock.unlock();
    try {
      slot->result = plan(slot->draw);
    } catch (...) {
      slot->failure = std::current_exception();
    }
    lock.lock();
    slot->done = true;
    return true;
  }

  // ---- under the lock ----

  // Draws records that are planned and packs them into batches, as far as there are any. True: something changed.
  bool mix() {
    bool changed = false;
    while (!sealed_ && static_cast<int64_t>(queue_.size()) < options_.batches_ahead) {
      if (static_cast<int64_t>(waiting_.size()) < look_ahead_) {
        std::deque<Slot>* slots = slots_to_draw_from();
        if (slots != nullptr) {
          if (slots->empty() || !slots->front().done) return changed;
          Slot slot = std::move(slots->front());
          slots->pop_front();
          draw(std::move(slot));
          changed = true;
          continue;
        }
      }
      changed = true;
      if (waiting_.empty())
        seal();
      else
        take_row();
    }
    return changed;
  }

  std::deque<Slot>* slots_to_draw_from() {
    if (!again_.empty()) return &again_;
    const auto source = mixture_->next_source();
    return source ? &ahead_[static_cast<size_t>(*source)] : nullptr;
  }

  // The head of the source the mixture is at first, then whichever source has least planned.
  Slot* slot_to_plan() {
    if (sealed_) return nullptr;
    for (Slot& slot : again_)
      if (!slot.taken) return &slot;
    const auto wanted = mixture_->next_source();
    std::optional<size_t> least = wanted ? std::optional(static_cast<size_t>(*wanted)) : std::nullopt;
    if (least && !ahead_[*least].empty()) least.reset();
    for (size_t s = 0; s < ahead_.size() && !least; ++s)
      if (static_cast<int64_t>(ahead_[s].size()) < kPlannedAhead && can_plan(s)) {
        least = s;
        for (size_t t = s + 1; t < ahead_.size(); ++t)
          if (ahead_[t].size() < ahead_[*least].size() && can_plan(t)) least = t;
      }
    if (!least) return nullptr;
    Slot slot;
    slot.draw = *mixture_->peek(static_cast<int64_t>(*least), static_cast<int64_t>(ahead_[*least].size()));
    return &ahead_[*least].emplace_back(std::move(slot));
  }

  bool can_plan(size_t source) const {
    return mixture_->peek(static_cast<int64_t>(source), static_cast<int64_t>(ahead_[source].size())).has_value();
  }

  void draw(Slot slot) {
    if (slot.failure) return abort_with(slot.failure);
    const auto source = static_cast<size_t>(slot.draw.source);
    Sample* sample = std::get_if<Sample>(&slot.result);
    const bool counted = !slot.again && slot.draw.epoch == 0;
    bool alive = true;
    if (!slot.again) alive = mixture_->advance(slot.draw.source, sample != nullptr ? sample->num_tokens() : 0);
    if (sample != nullptr) {
      building_->shortened += counted && sample->shortened ? 1 : 0;
      waiting_.push_back({slot.draw, std::move(*sample)});
    } else {
      const Problem& problem = std::get<Problem>(slot.result);
      if (policy_of(problem, options_) == Policy::kRefuse) return abort_with(refusal(problem));
      if (counted) building_->problems.push_back(problem);
      last_problem_[source] = problem;
    }
    if (alive) return;
    const Problem& last = last_problem_[source];
    abort_with(std::make_exception_ptr(Error(
        ErrorCode::kInvalidArgument, fmt::format("{}: none of its {} records can be learnt from; the last: {}: {}: {}",
                                                 files_[source].path().string(), files_[source].size(), last.where,
                                                 problem_name(last.kind), last.reason))));
  }

  void take_row() {
    std::vector<size_t> row = {0};
    if (options_.packing) {
      std::vector<int64_t> lengths;
      for (const Waiting& one : waiting_) lengths.push_back(one.sample.num_tokens());
      row = choose_pack(lengths, options_.sample.max_length);
    }
    for (const size_t i : row)
      building_->samples.push_back({waiting_[i].draw, std::move(waiting_[i].sample), building_->rows, {}, {}});
    ++building_->rows;
    std::sort(row.rbegin(), row.rend());
    for (const size_t i : row) waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    if (static_cast<int64_t>(building_->rows) == options_.rows_per_batch) push_batch();
  }

  void push_batch() {
    Batch& batch = *building_;
    batch.sources = mixture_->state();
    for (const Waiting& one : waiting_) batch.waiting.push_back(one.draw);
    for (const Slot& slot : again_) batch.waiting.push_back(slot.draw);
    for (size_t i = 0; i < batch.samples.size(); ++i)
      if (!batch.samples[i].sample.prompt.images.empty()) batch.with_pictures.push_back(i);
    batch.unfinished = batch.with_pictures.size();
    queue_.push_back(std::exchange(building_, std::make_unique<Batch>()));
  }

  // Behind the last record.
  void seal() {
    if (building_->rows > 0) push_batch();
    building_->end = building_->ready = true;
    building_->sources = mixture_->state();
    queue_.push_back(std::move(building_));
    sealed_ = true;
  }

  void abort_with(const std::exception_ptr& failure) {
    building_->failure = failure;
    building_->ready = true;
    queue_.push_back(std::move(building_));
    sealed_ = true;
  }

  // ---- without the lock in between ----

  std::variant<Sample, Problem> plan(const Draw& draw) const {
    const auto record = read(draw);
    if (const auto* bad = std::get_if<BadRecord>(&record))
      return Problem{ProblemKind::kRecord, bad->where, bad->reason};
    return plan_sample(*processor_, std::get<TrainingRecord>(record), options_.sample);
  }

  std::variant<TrainingRecord, BadRecord> read(const Draw& draw) const {
    return files_[static_cast<size_t>(draw.source)].read(mixture_->record_of(draw));
  }

  void load(Batch& batch, Loading& one, std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    try {
      const auto record = read(one.draw);
      if (const auto* bad = std::get_if<BadRecord>(&record))
        one.problem = Problem{ProblemKind::kRecord, bad->where, bad->reason};
      else
        one.problem = load_pictures(one.sample, std::get<TrainingRecord>(record), options_.sample.decode);
    } catch (...) {
      one.failure = std::current_exception();
    }
    lock.lock();
    --batch.unfinished;
  }

  void finish(Batch& batch, std::unique_lock<std::mutex>& lock) {
    batch.assembling = true;
    lock.unlock();
    std::exception_ptr failure;
    try {
      finish_batch(batch, options_);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    batch.failure = failure;
    batch.ready = true;
    batch_ready_.notify_all();
  }

  void count(const MicroBatch& batch, Clock::time_point begin) {
    const Clock::time_point now = Clock::now();
    if (stats_.batches++ == 0) {
      first_batch_ = now;
      stats_.startup_seconds = seconds(now - begin);
    } else {
      stats_.waited_seconds += seconds(now - begin);
    }
    stats_.rows += static_cast<int64_t>(batch.row_starts.size()) - 1;
    stats_.samples += batch.num_samples();
    stats_.tokens += batch.num_tokens();
    for (const TiledImage& image : batch.images) stats_.tiles += image.num_tiles();
    stats_.learnt_tokens += batch.num_tokens() - std::count(batch.labels.begin(), batch.labels.end(), kIgnoredLabel);
  }

  const std::shared_ptr<const Processor> processor_;
  const LoaderOptions options_;
  std::vector<DatasetFile> files_;
  int64_t look_ahead_ = 1;

  // The consumer's alone.
  LoaderState state_;
  LoaderStats stats_;
  Clock::time_point first_batch_;

  // Everything below is guarded by mutex_, but for what a taken slot, a sample being loaded and a batch being assembled
  // hold: that belongs to the worker at it.
  std::mutex mutex_;
  std::condition_variable work_to_do_, batch_ready_;
  bool stopping_ = false;
  bool sealed_ = false;  // no more batches will be made
  std::exception_ptr broken_;
  std::optional<Mixture> mixture_;
  std::deque<Slot> again_;
  std::vector<std::deque<Slot>> ahead_;  // of each source, from the mixture's place on
  std::vector<Problem> last_problem_;    // of each source
  std::vector<Waiting> waiting_;         // oldest first
  std::unique_ptr<Batch> building_ = std::make_unique<Batch>();
  std::deque<std::unique_ptr<Batch>> queue_;

  std::vector<std::thread> threads_;
};

Loader::Loader(std::shared_ptr<const Processor> processor, LoaderOptions options, const LoaderState* resume)
    : impl_(std::make_unique<Impl>(std::move(processor), std::move(options), resume)) {}
Loader::~Loader() = default;

std::optional<MicroBatch> Loader::next() { return impl_->next(); }
const LoaderState& Loader::state() const { return impl_->state(); }
LoaderStats Loader::stats() const { return impl_->stats(); }

}  // namespace vl2::train
