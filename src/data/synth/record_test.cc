#include "data/synth/record.h"

#include <gtest/gtest.h>

#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/error.h"
#include "core/base/test_data.h"
#include "core/image/fonts.h"
#include "core/processor/processor.h"

namespace vl2::data::synth {
namespace {

using nlohmann::json;

const std::string kNano = std::string(source_dir()) + "/tests/goldens/nano/model";

MakerOptions options_of(Stage stage, uint64_t seed = 7) {
  MakerOptions options;
  options.seed = seed;
  options.stage = stage;
  options.weights = MakerOptions::stage_weights(stage);
  return options;
}

std::string line_of(const Record& record) {
  return record_line(record, "x", std::vector<std::string>(record.images.size(), "p.png"));
}

TEST(Records, DependOnSeedAndIndexAloneNotOnWhatWasMadeBefore) {
  RecordMaker one(options_of(Stage::kSft)), other(options_of(Stage::kSft));
  for (int64_t i = 0; i < 20; ++i) one.make(i);
  for (const int64_t index : {19, 3, 11}) {
    const Record a = one.make(index), b = other.make(index);
    EXPECT_EQ(line_of(a), line_of(b));
    ASSERT_EQ(a.images.size(), b.images.size());
    for (size_t i = 0; i < a.images.size(); ++i) EXPECT_EQ(a.images[i].rgb, b.images[i].rgb);
  }
  EXPECT_EQ(line_of(make_record(options_of(Stage::kSft), 5)), line_of(one.make(5)));
  EXPECT_NE(line_of(make_record(options_of(Stage::kSft, 8), 5)), line_of(one.make(5)));
}

TEST(Records, EveryOneIsASampleForTrainingWithLabelsOnItsAnswers) {
  const Processor processor = Processor::open(kNano);
  for (const Stage stage : {Stage::kAlignment, Stage::kPretraining, Stage::kSft}) {
    RecordMaker maker(options_of(stage));
    for (int64_t i = 0; i < 120; ++i) {
      const Record record = maker.make(i);
      const json line = json::parse(line_of(record));
      std::vector<Message> messages;
      for (const json& m : line["messages"]) messages.push_back({m["role"], m["content"]});
      PromptOptions options;
      options.training = true;
      options.mask_prompt = true;
      const MultimodalPrompt prompt = processor.build(messages, record.images, options);
      // Each answer and its eos are supervised, and nothing else.
      const auto supervised =
          std::count_if(prompt.labels.begin() + 1, prompt.labels.end(), [](int32_t l) { return l != -100; });
      size_t expected = 0;
      for (const Turn& turn : record.turns) expected += processor.tokenizer().encode(turn.answer).size() + 1;
      EXPECT_EQ(static_cast<size_t>(supervised), expected) << line.dump();
      EXPECT_EQ(prompt.images.size(), record.images.size());
    }
  }
}

TEST(Records, AlignmentSaysWhatIsWhereInPicturesOfOneTile) {
  RecordMaker maker(options_of(Stage::kAlignment));
  int words = 0, shapes = 0, corners = 0;
  for (int64_t i = 0; i < 200; ++i) {
    const Record record = maker.make(i);
    ASSERT_EQ(record.images.size(), 1u);
    EXPECT_LE(std::max(record.images[0].width, record.images[0].height), options_of(Stage::kAlignment).tile);
    const json line = json::parse(line_of(record));
    std::string letters;
    for (size_t r = 0; r < record.regions.size(); ++r) {
      const Region& region = record.regions[r];
      EXPECT_TRUE(0 <= region.box.x1 && region.box.x1 <= region.box.x2 && region.box.x2 <= 999) << line.dump();
      EXPECT_TRUE(0 <= region.box.y1 && region.box.y1 <= region.box.y2 && region.box.y2 <= 999) << line.dump();
      EXPECT_EQ(line["regions"][r], json({0, region.box.x1, region.box.y1, region.box.x2, region.box.y2,
                                          region.global_label, region.local_label}));
      if (region.global_label.size() == 1 && region.global_label == region.local_label) letters += region.global_label;
      shapes += region.global_label.starts_with(" ") ? 1 : 0;
      corners += std::isdigit(static_cast<unsigned char>(region.global_label[0])) != 0 ? 1 : 0;
    }
    for (const Turn& turn : record.turns) {
      const bool one_word =
          turn.skill == Skill::kWord &&
          std::all_of(turn.answer.begin(), turn.answer.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
      const bool named =
          std::any_of(letters.begin(), letters.end(), [](unsigned char c) { return std::isalpha(c) != 0; });
      if (!one_word || !named) continue;
      EXPECT_NE(letters.find(turn.answer), std::string::npos) << letters << " " << turn.answer;
      ++words;
    }
  }
  EXPECT_GT(words, 30);
  EXPECT_GT(shapes, 100);
  EXPECT_GT(corners, 100);
  EXPECT_TRUE(RecordMaker(options_of(Stage::kSft)).make(0).regions.empty());
}

TEST(Records, PretrainingSaysWhatStandsInDocuments) {
  MakerOptions options = options_of(Stage::kPretraining);
  options.weights = parse_skills("bar,table,receipt");
  RecordMaker maker(options);
  int numbers = 0, words = 0;
  for (int64_t i = 0; i < 60; ++i) {
    const Record record = maker.make(i);
    ASSERT_FALSE(record.regions.empty());
    for (const Region& region : record.regions) {
      EXPECT_TRUE(0 <= region.box.x1 && region.box.x1 <= region.box.x2 && region.box.x2 <= 999);
      EXPECT_TRUE(0 <= region.box.y1 && region.box.y1 <= region.box.y2 && region.box.y2 <= 999);
      const bool digit = region.global_label.size() == 1 && std::isdigit(region.global_label[0]) != 0;
      numbers += digit ? 1 : 0;
      words += digit ? 0 : 1;
      if (digit) {
        EXPECT_TRUE(region.local_label.size() == 1 && std::isdigit(region.local_label[0]) != 0) << region.local_label;
      } else {
        EXPECT_TRUE(region.global_label.starts_with(" ") && region.global_label == region.local_label);
      }
    }
  }
  EXPECT_GT(numbers, 200);
  EXPECT_GT(words, 200);
  options.weights = parse_skills("colour,word");
  RecordMaker others(options);
  for (int64_t i = 0; i < 20; ++i) EXPECT_TRUE(others.make(i).regions.empty());
}

TEST(Records, AnswersWithBoxesParseToTheBoxesThatAreExpected) {
  MakerOptions options = options_of(Stage::kSft);
  options.weights = parse_skills("locate,findall,ground,absent");
  options.one_question = true;
  RecordMaker maker(options);
  std::map<Skill, int> seen;
  for (int64_t i = 0; i < 150; ++i) {
    const Record record = maker.make(i);
    ASSERT_EQ(record.turns.size(), 1u);
    const Turn& turn = record.turns.front();
    ++seen[turn.skill];
    std::vector<Box> boxes;
    for (const GroundedObject& object : parse_grounding(turn.answer).objects)
      boxes.insert(boxes.end(), object.boxes.begin(), object.boxes.end());
    EXPECT_EQ(boxes, turn.boxes) << turn.answer;
    EXPECT_EQ(turn.boxes.empty(), turn.skill == Skill::kAbsent);
    EXPECT_EQ(turn.skill == Skill::kGround, turn.question.find("<|grounding|>") != std::string::npos);
    for (const Box& box : boxes) {
      EXPECT_LT(box.x1, box.x2);
      EXPECT_LT(box.y1, box.y2);
    }
  }
  EXPECT_EQ(seen.size(), 4u);
}

TEST(Records, EverySkillIsAskedForAndOnlyThose) {
  MakerOptions options = options_of(Stage::kSft);
  options.one_question = true;
  options.weights.fill(1);
  RecordMaker maker(options);
  std::map<std::string_view, int> seen;
  for (int64_t i = 0; i < 600; ++i) ++seen[maker.make(i).task()];
  EXPECT_EQ(seen.size(), kNumSkills);
  // 600 / 18 = 33 each; five standard deviations are 28.
  for (const auto& [name, n] : seen) EXPECT_GT(n, 5) << name;
  options.weights = parse_skills("bar=3,pair");
  RecordMaker few(options);
  for (int64_t i = 0; i < 30; ++i) {
    const std::string_view task = few.make(i).task();
    EXPECT_TRUE(task == "bar" || task == "pair") << task;
  }
}

TEST(Records, EverySkillHasAtLeastSixWordings) {
  MakerOptions options = options_of(Stage::kSft);
  options.one_question = true;
  for (size_t skill = 0; skill < kNumSkills; ++skill) {
    options.weights.fill(0);
    options.weights[skill] = 1;
    options.chinese_share = 0;
    RecordMaker maker(options);
    // Without the words a question is about: the first two words and the last character tell wordings apart well
    // enough.
    std::set<std::string> wordings;
    for (int64_t i = 0; i < 150; ++i) {
      std::string question = maker.make(i).turns.front().question;
      if (const size_t ref = question.find("<|ref|>"); ref != std::string::npos)
        question.erase(ref, question.find("<|/ref|>") - ref);
      const size_t start = question.rfind("<image>\n") == std::string::npos ? 0 : question.rfind("<image>\n") + 8;
      const size_t second = question.find(' ', question.find(' ', start) + 1);
      wordings.insert(question.substr(start, second - start) + question.back());
    }
    EXPECT_GE(wordings.size(), 5u) << skill_name(static_cast<Skill>(skill));
  }
}

TEST(Records, ManyQuestionsAreAskedOnceEachAndTheFirstHasThePictures) {
  RecordMaker maker(options_of(Stage::kSft));
  double turns = 0, with_pictures = 0;
  for (int64_t i = 0; i < 150; ++i) {
    const Record record = maker.make(i);
    std::set<std::string> questions;
    size_t placeholders = 0;
    for (const Turn& turn : record.turns) {
      questions.insert(turn.question);
      placeholders += count_placeholders(turn.question);
      EXPECT_FALSE(turn.answer.empty());
    }
    EXPECT_EQ(questions.size(), record.turns.size());
    EXPECT_EQ(placeholders, record.images.size());
    EXPECT_EQ(count_placeholders(record.turns.front().question), record.images.size());
    turns += record.images.empty() ? 0 : static_cast<double>(record.turns.size());
    with_pictures += record.images.empty() ? 0 : 1;
  }
  EXPECT_GT(turns / with_pictures, 3.5);
  EXPECT_LT(turns / with_pictures, 6.0);
}

TEST(Records, ATestNeverMeetsPicturesFontsOrHeldOutWordsOfTraining) {
  MakerOptions train = options_of(Stage::kSft), test = train;
  test.split = Split::kTest;
  RecordMaker train_maker(train), test_maker(test);
  const auto key = [](const Image& image) {
    return fnv1a64({reinterpret_cast<const char*>(image.rgb.data()), image.rgb.size()});
  };
  std::set<uint64_t> pictures;
  for (int64_t i = 0; i < 60; ++i)
    for (const Image& image : train_maker.make(i).images) pictures.insert(key(image));
  for (int64_t i = 0; i < 60; ++i)
    for (const Image& image : test_maker.make(i).images) EXPECT_FALSE(pictures.contains(key(image)));

  const std::vector<std::filesystem::path> folders = font_folders();
  std::set<std::string> names;
  for (const FontFile& font : find_faces(Split::kTrain, folders)) names.insert(font.name);
  const std::vector<FontFile> unseen = find_faces(Split::kTest, folders);
  EXPECT_EQ(unseen.size(), 2u) << "fonts-dejavu-core has both";
  for (const FontFile& font : unseen) EXPECT_FALSE(names.contains(font.name)) << font.name;

  size_t held_out = 0;
  const Lexicon train_words(Split::kTrain), test_words(Split::kTest);
  for (const std::string_view word : train_words.words()) EXPECT_FALSE(is_held_out(word)) << word;
  for (const std::string_view word : test_words.words()) {
    held_out += is_held_out(word) ? 1 : 0;
    EXPECT_LE(word.size(), 8u);
  }
  EXPECT_GT(held_out, 40u);
}

TEST(Records, ALineSaysWhatIsExpectedWhereLettersAreNotTheMeasure) {
  MakerOptions options = options_of(Stage::kSft);
  options.one_question = true;
  options.weights = parse_skills("bar");
  const json bar = json::parse(line_of(make_record(options, 1)));
  EXPECT_EQ(bar["task"], "bar");
  EXPECT_EQ(bar["expect"]["tolerance"], 0.05);
  EXPECT_EQ(std::to_string(bar["expect"]["value"].get<int64_t>()), bar["messages"][1]["content"]);
  options.weights = parse_skills("locate");
  const json locate = json::parse(line_of(make_record(options, 1)));
  EXPECT_EQ(locate["expect"]["boxes"].size(), 1u);
  EXPECT_EQ(locate["images"].size(), 1u);
  options.weights = parse_skills("text");
  EXPECT_FALSE(json::parse(line_of(make_record(options, 1))).contains("images"));
}

ErrorCode refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was refused";
  return ErrorCode::kInternal;
}

TEST(Records, ImpossibleOptionsAreRefused) {
  for (const char* skills :
       {"", "colour,", "nothing", "colour=", "colour=-1", "colour=nan", "colour=1e9", "colour=1x", "colour==1"})
    EXPECT_EQ(refusal([&] { parse_skills(skills); }), ErrorCode::kInvalidArgument) << skills;
  MakerOptions options = options_of(Stage::kSft);
  options.tile = 63;
  EXPECT_EQ(refusal([&] { RecordMaker maker(options); }), ErrorCode::kInvalidArgument);
  options = options_of(Stage::kSft);
  options.weights.fill(0);
  EXPECT_EQ(refusal([&] { RecordMaker maker(options); }), ErrorCode::kInvalidArgument);
  options = options_of(Stage::kSft);
  options.chinese_share = std::nan("");
  EXPECT_EQ(refusal([&] { RecordMaker maker(options); }), ErrorCode::kInvalidArgument);
  options = options_of(Stage::kSft);
  options.font_folders = {"/nonexistent"};
  EXPECT_EQ(refusal([&] { RecordMaker maker(options); }), ErrorCode::kNotFound);
}

TEST(Records, AnyTileSizeWorks) {
  for (const int64_t tile : {64, 384, 1024}) {
    MakerOptions options = options_of(Stage::kSft);
    options.tile = tile;
    RecordMaker maker(options);
    for (int64_t i = 0; i < 12; ++i)
      for (const Image& image : maker.make(i).images) {
        EXPECT_LE(std::max(image.width, image.height), 2 * tile);
        EXPECT_GE(std::min(image.width, image.height), tile / 2);
      }
  }
}

}  // namespace
}  // namespace vl2::data::synth
