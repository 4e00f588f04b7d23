// The trainer's input: record files in, micro-batches out, made ahead of time by worker threads.
//
//   draw    mixture              which record is next, by tokens
//   plan    dataset, sample      its ids, labels and picture sizes: a few at a time, ahead of the mixture
//   pack    packing              samples of the look-ahead buffer share rows; rows_per_batch rows are a batch
//   load    sample               pictures of a batch are decoded and cut
//   hand out                     in order
//
// What comes out, and when it says something is wrong, depends on files and options alone, not on the number of threads
// or their timing. Owns the files and the threads; all that they share lies behind one mutex. One thread calls the
// member functions; the destructor stops the workers, at the latest when each has finished the sample it is at.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "core/dataset/dataset_file.h"
#include "core/processor/processor.h"
#include "train/input/loader_state.h"
#include "train/input/micro_batch.h"
#include "train/input/sample.h"

namespace vl2::train {

enum class Policy {
  kSkip,    // leave out, count and list
  kRefuse,  // next() throws at the batch the record would have been in or before
};

struct SourceOptions {
  std::filesystem::path file;
  double weight = 1;                                  // share of the tokens, relative to the other sources'
  std::filesystem::path image_root = {};              // empty: the folder of the file
  std::optional<RecordFormat> format = std::nullopt;  // absent: found out record by record
};

struct LoaderOptions {
  std::vector<SourceOptions> sources;
  SampleOptions sample;  // max_length is that of a row, too
  bool packing = true;   // false: a row is one sample
  int64_t rows_per_batch = 1;
  int64_t look_ahead = 256;  // samples that wait to be packed
  uint64_t seed = 0;
  bool shuffle = true;
  int64_t epochs = 0;         // of every source; 0: no end
  int threads = 2;            // 0: next() does the work itself
  int64_t batches_ahead = 4;  // made or being made; they hold pixels
  Policy bad_records = Policy::kSkip;
  Policy too_long = Policy::kSkip;
  size_t max_listed = 20;  // problems the report keeps
};

// Of what was handed out since the loader was made.
struct LoaderStats {
  int64_t batches = 0, rows = 0, samples = 0, tokens = 0, tiles = 0;
  int64_t learnt_tokens = 0;   // labels that are not ignored
  double fill = 0;             // of rows of max_length, 0 to 1
  double startup_seconds = 0;  // until the first batch
  double waited_seconds = 0;   // in next(), the first call apart
  double elapsed_seconds = 0;  // since the first batch
  double waited_share() const { return elapsed_seconds > 0 ? waited_seconds / elapsed_seconds : 0; }
};

class Loader {
 public:
  // With a state, goes on behind the batch it belongs to: same files, seed and sample options give the same batches,
  // bit for bit. kNotFound, kIo: a source's file. kInvalidArgument: impossible options, sources without any record (one
  // alone is skipped if policy allows), a state of other sources.
  Loader(std::shared_ptr<const Processor> processor, LoaderOptions options, const LoaderState* resume = nullptr);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch; nullopt when all epochs are over. Never without samples. kInvalidArgument: a bad record where
  // policy refuses it, with file and line; a source of which no record of an epoch could be used. The same again when
  // called again.
  std::optional<MicroBatch> next();

  // Belong to the last batch handed out. The report is whole once next() has returned nullopt.
  const LoaderState& state() const;
  const InputReport& report() const { return state().report; }
  LoaderStats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vl2::train
