#include "train/input/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "core/base/error.h"
#include "core/image/tiling.h"
#include "core/processor/toy_processor.h"
#include "train/input/assemble.h"
#include "train/input/test_records.h"

namespace vl2::train {
namespace {

constexpr int64_t kRow = 200;

// All of a batch that a training step can see.
struct Seen {
  std::vector<int32_t> input_ids, labels, positions;
  std::vector<uint8_t> vision_mask;
  std::vector<int64_t> sample_starts, row_starts;
  std::vector<std::vector<uint8_t>> pixels;
  std::vector<std::string> record_ids;
  bool operator==(const Seen&) const = default;
};

Seen see(const MicroBatch& batch) {
  Seen seen{batch.input_ids,  batch.labels, batch.positions, batch.vision_mask, batch.sample_starts,
            batch.row_starts, {},           batch.record_ids};
  for (const TiledImage& image : batch.images) seen.pixels.push_back(image.pixels);
  return seen;
}

class LoaderTest : public testing::Test {
 protected:
  LoaderTest() : processor_(std::make_shared<const Processor>(toy_processor())) {
    for (int i = 0; i < 6; ++i)
      write_picture(folder_ / picture(i), 20 + 15 * i, 20 + 7 * i, static_cast<uint64_t>(i) * 1000000);
    std::vector<nlohmann::json> pictures, texts;
    for (int i = 0; i < 23; ++i) {
      const std::string answer(static_cast<size_t>(1 + i * 5 % 17), static_cast<char>('a' + i));
      nlohmann::json record = {{"id", fmt::format("p{}", i)}, {"images", nlohmann::json::array()}};
      std::string question = "q";
      for (int k = 0; k <= i % 2; ++k) {
        record["images"].push_back(picture((i + k) % 6));
        question += "<image>";
      }
      record["messages"] = {test_turn("user", question), test_turn("assistant", answer)};
      pictures.push_back(record);
    }
    for (int i = 0; i < 31; ++i)
      texts.push_back({{"id", fmt::format("t{}", i)}, {"text", std::string(static_cast<size_t>(3 + i * 7 % 40), 'x')}});
    write_records(folder_ / "pictures.jsonl", pictures);
    write_records(folder_ / "texts.jsonl", texts);
  }

  static std::string picture(int i) { return fmt::format("picture{}.png", i); }

  LoaderOptions options(int threads = 0) {
    LoaderOptions options;
    options.sources = {{folder_ / "pictures.jsonl", 0.7}, {folder_ / "texts.jsonl", 0.3}};
    options.sample.max_length = kRow;
    options.rows_per_batch = 2;
    options.look_ahead = 16;
    options.seed = 5;
    options.threads = threads;
    return options;
  }
  LoaderOptions only(const std::string& file, int threads = 0) {
    LoaderOptions one = options(threads);
    one.sources = {{folder_ / file}};
    one.epochs = 1;
    return one;
  }
  Loader loader(const LoaderOptions& options, const LoaderState* state = nullptr) {
    return Loader(processor_, options, state);
  }

  TempFolder folder_;
  std::shared_ptr<const Processor> processor_;
};

TEST_F(LoaderTest, EveryRecordOfAnEpochComesOnceWhole) {
  for (const bool packing : {true, false}) {
    LoaderOptions one = only("pictures.jsonl");
    one.packing = packing;
    Loader input(processor_, one);
    std::vector<std::string> names;
    while (const auto batch = input.next()) {
      const auto n = static_cast<size_t>(batch->num_tokens());
      ASSERT_EQ(batch->labels.size(), n);
      ASSERT_EQ(batch->positions.size(), n);
      ASSERT_EQ(batch->vision_mask.size(), n);
      EXPECT_TRUE(batch->key_mask.empty());
      ASSERT_EQ(batch->sample_starts.size(), batch->record_ids.size() + 1);
      EXPECT_EQ(batch->sample_starts.back(), batch->num_tokens());
      EXPECT_EQ(batch->row_starts.back(), batch->num_tokens());
      EXPECT_LE(batch->row_starts.size(), 3u);
      size_t vision = 0;
      for (const TiledImage& image : batch->images) {
        EXPECT_EQ(image.pixels.size(), static_cast<size_t>(image.num_tiles() * 32 * 32 * 3));
        vision += static_cast<size_t>(num_vision_tokens({image.tiles_wide, image.tiles_high}, 2));
      }
      EXPECT_EQ(std::count(batch->vision_mask.begin(), batch->vision_mask.end(), 1), static_cast<int64_t>(vision));
      for (size_t row = 0; row + 1 < batch->row_starts.size(); ++row) {
        EXPECT_LE(batch->row_starts[row + 1] - batch->row_starts[row], kRow);
        EXPECT_TRUE(packing || batch->row_starts[row] == batch->sample_starts[row]);
        EXPECT_TRUE(std::count(batch->sample_starts.begin(), batch->sample_starts.end(), batch->row_starts[row]));
      }
      for (size_t s = 0; s < batch->record_ids.size(); ++s) {
        const auto begin = static_cast<size_t>(batch->sample_starts[s]),
                   end = static_cast<size_t>(batch->sample_starts[s + 1]);
        EXPECT_EQ(batch->input_ids[begin], kToyBos);
        EXPECT_EQ(batch->input_ids[end - 1], kToyEos);
        EXPECT_EQ(batch->labels[begin], kIgnoredLabel);
        for (size_t i = begin; i < end; ++i) EXPECT_EQ(batch->positions[i], static_cast<int32_t>(i - begin));
      }
      names.insert(names.end(), batch->record_ids.begin(), batch->record_ids.end());
    }
    EXPECT_FALSE(input.next());
    std::sort(names.begin(), names.end());
    EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
    EXPECT_EQ(names.size(), 23u);
    EXPECT_EQ(names.front(), (folder_ / "pictures.jsonl").string() + ":1 (p0)");
    EXPECT_EQ(input.stats().samples, 23);
    EXPECT_EQ(input.report().total(), 0);
    EXPECT_EQ(input.report().text(), "");
  }
}

TEST_F(LoaderTest, ARowHoldsWhatItsSamplesAreAlone) {
  LoaderOptions one = only("pictures.jsonl");
  Loader packed(processor_, one);
  one.packing = false;
  one.rows_per_batch = 1;
  Loader alone(processor_, one);
  std::map<std::string, Seen> samples;
  while (const auto batch = alone.next()) samples[batch->record_ids.at(0)] = see(*batch);
  int shared = 0;
  while (const auto batch = packed.next()) {
    size_t image = 0;
    for (size_t s = 0; s < batch->record_ids.size(); ++s) {
      const Seen& single = samples.at(batch->record_ids[s]);
      const auto begin = batch->sample_starts[s], end = batch->sample_starts[s + 1];
      const auto part = [&](const auto& all) {
        return std::remove_cvref_t<decltype(all)>(all.begin() + begin, all.begin() + end);
      };
      EXPECT_EQ(part(batch->input_ids), single.input_ids);
      EXPECT_EQ(part(batch->labels), single.labels);
      EXPECT_EQ(part(batch->positions), single.positions);
      EXPECT_EQ(part(batch->vision_mask), single.vision_mask);
      for (const auto& pixels : single.pixels) EXPECT_EQ(batch->images.at(image++).pixels, pixels);
    }
    shared += batch->record_ids.size() > 2;
  }
  EXPECT_GT(shared, 0);
}

TEST_F(LoaderTest, BatchesDoNotDependOnTheNumberOfThreads) {
  std::vector<Seen> expected;
  LoaderState state;
  for (const int threads : {0, 1, 2, 5}) {
    LoaderOptions some = options(threads);
    some.batches_ahead = threads + 1;
    Loader input(processor_, some);
    for (size_t i = 0; i < 30; ++i) {
      const Seen seen = see(*input.next());
      if (threads == 0)
        expected.push_back(seen);
      else
        ASSERT_EQ(seen, expected[i]) << threads << " threads, batch " << i;
    }
    if (threads == 0) state = input.state();
    EXPECT_EQ(input.state(), state);
  }
}

TEST_F(LoaderTest, GoesOnBehindEveryBatchAsIfItHadNeverStopped) {
  for (const bool packing : {true, false}) {
    LoaderOptions some = options();
    some.packing = packing;
    some.epochs = 2;
    Loader whole(processor_, some);
    std::vector<Seen> batches;
    std::vector<LoaderState> states = {whole.state()};
    while (const auto batch = whole.next()) {
      batches.push_back(see(*batch));
      states.push_back(parse_loader_state(to_json(whole.state()), "state"));
      EXPECT_EQ(states.back(), whole.state());
    }
    ASSERT_GT(batches.size(), 10u);
    for (size_t i = 0; i < states.size(); ++i) {
      some.threads = static_cast<int>(i % 3);
      Loader resumed(processor_, some, &states[i]);
      EXPECT_EQ(resumed.state(), states[i]);
      for (size_t j = i; j < batches.size(); ++j) {
        const auto batch = resumed.next();
        ASSERT_TRUE(batch);
        ASSERT_EQ(see(*batch), batches[j]) << "from " << i << ", batch " << j;
        ASSERT_EQ(resumed.state(), states[j + 1]);
      }
      EXPECT_FALSE(resumed.next());
    }
  }
}

TEST_F(LoaderTest, MixesSourcesByTokens) {
  LoaderOptions some = options();
  some.sample.max_length = 400;
  Loader input(processor_, some);
  int64_t pictures = 0, all = 0;
  for (int i = 0; i < 400; ++i) {
    const auto batch = input.next();
    for (size_t s = 0; s < batch->record_ids.size(); ++s) {
      const int64_t tokens = batch->sample_starts[s + 1] - batch->sample_starts[s];
      all += tokens;
      if (batch->record_ids[s].find("pictures.jsonl") != std::string::npos) pictures += tokens;
    }
  }
  EXPECT_NEAR(static_cast<double>(pictures) / static_cast<double>(all), 0.7, 0.005);
  EXPECT_EQ(input.stats().tokens, all);
  EXPECT_GT(input.stats().fill, 0.9);
}

TEST_F(LoaderTest, BadRecordsAreLeftOutCountedAndListedWithTheirLines) {
  const std::string png = encode_png(test_picture(40, 40, 5));
  write_file_atomic(folder_ / "cut.png", png.substr(0, png.size() / 2));
  const auto with = [](const std::string& question, const std::string& image) {
    nlohmann::json record = {{"messages", {test_turn("user", question), test_turn("assistant", "a")}}};
    if (!image.empty()) record["images"] = {image};
    return record.dump() + "\n";
  };
  write_file_atomic(folder_ / "bad.jsonl", with("<image>", "picture0.png") +  // 1: good
                                               "{\"messages\": 3}\n" +        // 2: record
                                               with("q", "picture0.png") +    // 3: placeholders
                                               with("<image>", "none.png") +  // 4: picture
                                               with("<image>", "cut.png") +   // 5: picture, when loaded
                                               with("<|det|>[[1, 2, 3, 1000]]<|/det|>", "") +  // 6: box
                                               with(std::string(300, 'x'), "") +               // 7: too long
                                               with("good", ""));
  InputReport first;
  for (const int threads : {0, 3}) {
    LoaderOptions bad = only("bad.jsonl", threads);
    bad.epochs = 3;
    bad.max_listed = 5;
    Loader input(processor_, bad);
    while (input.next()) {
    }
    EXPECT_EQ(input.stats().samples, 6);
    const InputReport& report = input.report();
    EXPECT_EQ(report.counts, (std::array<int64_t, 5>{1, 1, 2, 1, 1}));
    EXPECT_EQ(report.listed.size(), 5u);
    if (threads == 0) first = report;
    EXPECT_EQ(report, first);
    EXPECT_NE(report.text().find("6 records left out: 1 record 1 placeholders 2 picture 1 box 1 too long"),
              std::string::npos)
        << report.text();
    EXPECT_NE(report.text().find("and 1 more"), std::string::npos);
    for (const Problem& problem : report.listed)
      EXPECT_NE(problem.where.find((folder_ / "bad.jsonl").string() + ":"), std::string::npos);
  }
}

TEST_F(LoaderTest, RefusedRecordsAreErrorsWithFileAndLineAfterTheBatchesBeforeThem) {
  std::vector<nlohmann::json> records;
  for (int i = 0; i < 40; ++i)
    records.push_back({{"messages", {test_turn("user", i == 30 ? "<image>" : "q"), test_turn("assistant", "a")}}});
  write_records(folder_ / "late.jsonl", records);
  for (const int threads : {0, 2}) {
    LoaderOptions strict = only("late.jsonl", threads);
    strict.bad_records = Policy::kRefuse;
    strict.shuffle = false;
    strict.packing = false;
    Loader input(processor_, strict);
    for (int i = 0; i < 15; ++i) ASSERT_TRUE(input.next()) << i;
    for (int again = 0; again < 2; ++again) {
      try {
        input.next();
        FAIL();
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("late.jsonl:31: placeholders: 1 <image>"), std::string::npos)
            << error.what();
      }
    }
  }
}

TEST_F(LoaderTest, TooLongRecordsHaveAPolicyOfTheirOwn) {
  write_records(folder_ / "long.jsonl",
                {{{"messages", {test_turn("user", std::string(300, 'x')), test_turn("assistant", "a")}}},
                 {{"messages",
                   {test_turn("user", "q"), test_turn("assistant", "a"), test_turn("user", "r"),
                    test_turn("assistant", std::string(300, 'x'))}}}});
  LoaderOptions some = only("long.jsonl");
  some.bad_records = Policy::kRefuse;
  Loader input(processor_, some);
  EXPECT_EQ(input.next()->num_samples(), 1);
  EXPECT_FALSE(input.next());
  EXPECT_EQ(input.report().counts[static_cast<size_t>(ProblemKind::kTooLong)], 1);
  EXPECT_EQ(input.report().shortened, 1);
  some.too_long = Policy::kRefuse;
  Loader strict(processor_, some);
  EXPECT_THROW(strict.next(), Error);
}

TEST_F(LoaderTest, ASourceThatGivesNothingIsAnErrorAndNotALoop) {
  write_records(folder_ / "useless.jsonl", {{{"text", 1}}, {{"texts", "x"}}});
  LoaderOptions some = options(2);
  some.sources.push_back({folder_ / "useless.jsonl", 0.5});
  Loader input(processor_, some);
  try {
    for (int i = 0; i < 1000; ++i) input.next();
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("none of its 2 records"), std::string::npos) << error.what();
  }
}

TEST_F(LoaderTest, EmptySourcesAreSkippedOrRefused) {
  write_file_atomic(folder_ / "empty.jsonl", "\n");
  LoaderOptions some = options();
  some.sources.push_back({folder_ / "empty.jsonl", 1});
  Loader input(processor_, some);
  EXPECT_TRUE(input.next());
  EXPECT_EQ(input.report().total(), 1);
  some.bad_records = Policy::kRefuse;
  EXPECT_THROW(loader(some), Error);
  EXPECT_THROW(loader(only("empty.jsonl")), Error);
  EXPECT_THROW(loader(only("missing.jsonl")), Error);
  some.sources.clear();
  EXPECT_THROW(loader(some), Error);
}

TEST_F(LoaderTest, RefusesImpossibleOptionsAndStatesOfOtherData) {
  for (const auto& change : std::vector<std::function<void(LoaderOptions&)>>{
           [](LoaderOptions& o) { o.sample.max_length = 0; }, [](LoaderOptions& o) { o.rows_per_batch = 0; },
           [](LoaderOptions& o) { o.look_ahead = 0; }, [](LoaderOptions& o) { o.batches_ahead = 0; },
           [](LoaderOptions& o) { o.threads = -1; }, [](LoaderOptions& o) { o.threads = 100000; },
           [](LoaderOptions& o) { o.epochs = -1; }, [](LoaderOptions& o) { o.sources[0].weight = 0; }}) {
    LoaderOptions wrong = options();
    change(wrong);
    EXPECT_THROW(loader(wrong), Error);
  }
  Loader input(processor_, options());
  input.next();
  const LoaderState good = input.state();
  ASSERT_FALSE(good.waiting.empty());
  for (const auto& change : std::vector<std::function<void(LoaderState&)>>{
           [](LoaderState& s) { s.seed = 6; }, [](LoaderState& s) { s.records[0] = 24; },
           [](LoaderState& s) { s.sources.pop_back(); }, [](LoaderState& s) { s.sources[0].position = 23; },
           [](LoaderState& s) { s.waiting[0].source = 2; }, [](LoaderState& s) { s.waiting[0].position = 1000; }}) {
    LoaderState wrong = good;
    change(wrong);
    EXPECT_THROW(loader(options(), &wrong), Error);
  }
}

TEST_F(LoaderTest, CanBeStoppedAtAnyTime) {
  for (int batches = 0; batches < 4; ++batches) {
    Loader input(processor_, options(3));
    for (int i = 0; i < batches; ++i) EXPECT_TRUE(input.next());
  }
}

TEST_F(LoaderTest, CountsTheTimeItsCallerWaited) {
  Loader input(processor_, options(1));
  for (int i = 0; i < 20; ++i) input.next();
  const LoaderStats stats = input.stats();
  EXPECT_EQ(stats.batches, 20);
  EXPECT_GT(stats.startup_seconds, 0);
  EXPECT_LE(stats.waited_seconds, stats.elapsed_seconds);
  EXPECT_GE(stats.waited_share(), 0);
  EXPECT_GT(stats.tiles, 0);
  EXPECT_LT(stats.learnt_tokens, stats.tokens);
}

TEST(LoaderState, RefusesJsonThatIsNone) {
  LoaderState state;
  state.records = {3};
  state.sources = {{1, 2, 300, 1}};
  state.waiting = {{0, 1, 0}};
  state.report.add({ProblemKind::kBox, "a:1", "\xff"}, 5);
  const nlohmann::json good = nlohmann::json::parse(to_json(state));
  EXPECT_EQ(parse_loader_state(good.dump(), "state").sources, state.sources);
  for (const char* key : {"version", "seed", "batches", "records", "sources", "waiting", "report"}) {
    for (const nlohmann::json& value :
         {nlohmann::json(-1), nlohmann::json("x"), nlohmann::json({{{"a", 1}}}), nlohmann::json({1, "x"})}) {
      nlohmann::json wrong = good;
      wrong[key] = value;
      EXPECT_THROW(parse_loader_state(wrong.dump(), "state"), Error) << key << " " << value;
    }
    nlohmann::json wrong = good;
    wrong.erase(key);
    EXPECT_THROW(parse_loader_state(wrong.dump(), "state"), Error) << key;
  }
  EXPECT_THROW(parse_loader_state("", "state"), Error);
}

}  // namespace
}  // namespace vl2::train
