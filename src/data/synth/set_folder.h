// A synthetic set on disk:
//
//   DIR/synth.json            what it was made with, and whether it is whole
//   DIR/train.jsonl           one record a line (record.h), or test.jsonl; train.jsonl.part until it is whole
//   DIR/images/012/0012345.png, and 0012345b.png for the second picture of a record
//
// Same options, same bytes, whatever the number of threads. An interrupted run goes on where its last whole chunk of
// records ended when it is started again with the same options; where the set is whole already, nothing is done.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/synth/record.h"

namespace vl2::data::synth {

struct SetOptions {
  MakerOptions maker;
  int64_t records = 1000;  // 1 to 100,000,000
  int threads = 0;         // 0: every core of this process
  bool replace = false;    // a set that is there already, of whatever options, is deleted first
  // After each chunk: records done. Returns false to stop there; the next run goes on.
  std::function<bool(int64_t done, int64_t total)> progress;
};

struct SetReport {
  std::filesystem::path records_file;
  int64_t records = 0, questions = 0, pictures = 0;  // of the whole set
  int64_t resumed_at = 0;                            // records that an earlier run had made
  uint64_t picture_bytes = 0;                        // written by this run
  std::vector<std::string> fonts;
  bool has_chinese_font = false;
  bool whole = false;  // false: progress stopped it
};

// kInvalidArgument: the folder has something else in it, or a set of other options (without `replace`), or options that
// the maker refuses. kCorrupt: a whole set that has lost records. kIo: the disk.
SetReport write_set(const std::filesystem::path& folder, const SetOptions& options);

}  // namespace vl2::data::synth
