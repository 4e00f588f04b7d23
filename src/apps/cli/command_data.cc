// vl2 data: makes training data. `vl2 data synth nano` draws the set that nano learns from, `vl2 data tokenizer` learns
// a small model's tokens from it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/progress_line.h"
#include "apps/cli/terminal.h"
#include "core/base/error.h"
#include "data/synth/set_folder.h"
#include "data/tokenizer/learn_tokenizer.h"

namespace vl2::cli {
namespace {

using nlohmann::ordered_json;
namespace synth = data::synth;

struct SynthOptions {
  std::string out, split = "train", stage = "sft", questions = "many", skills;
  std::vector<std::string> fonts;
  synth::SetOptions set;
  bool json = false;
};

synth::SetOptions set_options(const SynthOptions& options) {
  synth::SetOptions set = options.set;
  set.maker.split = options.split == "test" ? synth::Split::kTest : synth::Split::kTrain;
  set.maker.stage = options.stage == "alignment"     ? synth::Stage::kAlignment
                    : options.stage == "pretraining" ? synth::Stage::kPretraining
                                                     : synth::Stage::kSft;
  set.maker.one_question = options.questions == "one";
  set.maker.weights = options.skills.empty() ? synth::MakerOptions::stage_weights(set.maker.stage)
                                             : synth::parse_skills(options.skills);
  set.maker.font_folders.assign(options.fonts.begin(), options.fonts.end());
  return set;
}

ordered_json report_json(const synth::SetReport& report, double seconds) {
  return {{"records_file", report.records_file.string()},
          {"records", report.records},
          {"questions", report.questions},
          {"pictures", report.pictures},
          {"resumed_at", report.resumed_at},
          {"picture_bytes", report.picture_bytes},
          {"seconds", seconds},
          {"fonts", report.fonts},
          {"chinese_font", report.has_chinese_font},
          {"whole", report.whole}};
}

std::string report_text(const synth::SetReport& report, double seconds) {
  std::string text = fmt::format("{}: {} records, {} questions, {} pictures", report.records_file.string(),
                                 report.records, report.questions, report.pictures);
  if (report.resumed_at > 0 && report.resumed_at == report.records) return text + "; they were there already\n";
  if (report.resumed_at > 0) text += fmt::format("; went on from record {}", report.resumed_at);
  text += fmt::format("\n{:.1f} MB of pictures in {:.1f} s, {} fonts\n",
                      static_cast<double>(report.picture_bytes) / 1e6, seconds, report.fonts.size());
  if (!report.has_chinese_font)
    text += "no Chinese font here (fonts-wqy-microhei has one): questions in Chinese, but no Chinese in the pictures\n";
  return text;
}

int run(const SynthOptions& options) {
  synth::SetOptions set = set_options(options);
  ProgressLine progress("data");
  const InterruptWatch interrupt;
  set.progress = [&](int64_t done, int64_t total) {
    progress.show("drawing:", done, total, "records");
    return !interrupt.requested();
  };
  const auto start = std::chrono::steady_clock::now();
  const synth::SetReport report = synth::write_set(options.out, set);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  progress.clear();
  if (!report.whole) {
    write_stderr(
        printable(fmt::format("vl2 data: stopped after {} of {} records; the same command goes on from there\n",
                              report.records, set.records)));
    return kExitInterrupted;
  }
  write_stdout(options.json ? report_json(report, seconds).dump(2) + "\n" : printable(report_text(report, seconds)));
  return kExitOk;
}

void add_options(CLI::App& app, SynthOptions& options) {
  app.add_option("--out", options.out, "Folder for the records and pictures: new, empty, or begun with these options")
      ->type_name("DIR")
      ->required();
  app.add_option("--records", options.set.records, "Records to make (default: 1000)")
      ->type_name("N")
      ->check(CLI::Range(1, 100'000'000).description(""));
  app.add_option("--seed", options.set.maker.seed, "Another seed, other records (default: 0)")->type_name("N");
  app.add_option("--split", options.split, "train (default), or test: other pictures, fonts and words")
      ->type_name("SPLIT")
      ->check(CLI::IsMember({"train", "test"}).description(""));
  app.add_option("--stage", options.stage, "Which mix: alignment, pretraining or sft (default)")
      ->type_name("STAGE")
      ->check(CLI::IsMember({"alignment", "pretraining", "sft"}).description(""));
  app.add_option("--skills", options.skills, "A mix of one's own: colour,count=3,word=2 (weights; others: none)")
      ->type_name("LIST");
  app.add_option("--questions", options.questions, "many (default) a record, or one, for measuring")
      ->type_name("WHICH")
      ->check(CLI::IsMember({"one", "many"}).description(""));
  app.add_option("--tile", options.set.maker.tile, "Pixels a side of the model's tiles (default: 210)")
      ->type_name("N")
      ->check(CLI::Range(64, 1024).description(""));
  app.add_option("--chinese", options.set.maker.chinese_share,
                 "Share of Chinese where a question can be asked in it (default: 0.08)")
      ->type_name("X")
      ->check(CLI::Range(0.0, 1.0).description(""));
  app.add_option("--fonts", options.fonts, "Look for fonts below this folder, not in the system's; may be repeated")
      ->type_name("DIR")
      ->allow_extra_args(false);
  app.add_option("--threads", options.set.threads, "Threads (default: every core this process may use)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024).description(""));
  app.add_flag("--replace", options.set.replace, "Delete the set that is in the folder already");
  app.add_flag("--json", options.json, "The report as one JSON object");
}

struct TokenizerCommand {
  std::vector<std::string> records;
  std::string out;
  data::BpeOptions bpe;
};

int run(const TokenizerCommand& options) {
  const data::TokenizerReport report =
      data::learn_tokenizer({options.records.begin(), options.records.end()}, options.out, options.bpe);
  write_stdout(printable(fmt::format("{}: {} tokens, from {} records with {:.1f} MB of text\n", options.out,
                                     report.vocab_size, report.records, static_cast<double>(report.bytes) / 1e6)));
  if (report.skipped > 0)
    write_stderr(fmt::format("vl2 data: {} records could not be read and were left out\n", report.skipped));
  return kExitOk;
}

void add_options(CLI::App& app, TokenizerCommand& options) {
  app.add_option("records", options.records, "Files of training records")->required()->type_name("FILE");
  app.add_option("--out", options.out, "Folder for tokenizer.json and its companions")->type_name("DIR")->required();
  app.add_option("--vocab", options.bpe.vocab_size, "Tokens in all (default: 512)")
      ->type_name("N")
      ->check(CLI::Range(267, 200'000).description(""));
  app.footer(
      "Byte-level BPE, cut as the releases' tokenizer cuts; digits stay tokens of their own.\n\n"
      "Example:\n  vl2 data tokenizer sets/train/train.jsonl --out nano --vocab 640");
}

}  // namespace

RunCommand declare_data(CLI::App& app) {
  app.require_subcommand(1);
  CLI::App* synth = app.add_subcommand("synth", "Draw a synthetic set");
  synth->require_subcommand(1);
  CLI::App* nano = synth->add_subcommand("nano", "Coloured shapes, words, charts, tables, receipts, and questions");
  const auto options = std::make_shared<SynthOptions>();
  add_options(*nano, *options);
  nano->footer(
      "The same options give the same bytes, whatever the number of threads. Ctrl-C stops at the next whole chunk; "
      "the\n"
      "same command goes on from there. docs/data.md lists skills, wordings and forms of answers.\n\n"
      "Example:\n  vl2 data synth nano --out sets/train --records 200000 --seed 1\n"
      "  vl2 data synth nano --out sets/test --split test --records 2000 --questions one");
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "Learn a small model's tokens from training records");
  const auto learn = std::make_shared<TokenizerCommand>();
  add_options(*tokenizer, *learn);
  return [options, learn, tokenizer] { return tokenizer->parsed() ? run(*learn) : run(*options); };
}

}  // namespace vl2::cli
