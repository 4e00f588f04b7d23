// Conversation without pictures, so that the language model stays one: sums, counting, letters, words, names.
#include <algorithm>
#include <string>

#include "data/synth/questions.h"

namespace vl2::data::synth {
namespace {

using Wordings = std::array<std::string_view, 6>;

constexpr Wordings kSum = {"What is {} + {}?",        "{} + {} = ?",      "Add {} and {}.", "How much is {} plus {}?",
                           "What do {} and {} make?", "Work out {} + {}."};
constexpr Wordings kDifference = {"What is {} - {}?",
                                  "{} - {} = ?",
                                  "How much is {} minus {}?",
                                  "Work out {} - {}.",
                                  "Take from {} the number {}.",
                                  "What remains of {} less {}?"};
constexpr Wordings kLargerNumber = {"Which is larger, {} or {}?",    "Is {} or {} the larger number?",
                                    "What is more, {} or {}?",       "Which number is larger: {} or {}?",
                                    "Name the larger of {} and {}.", "Of {} and {}, which is larger?"};
constexpr Wordings kNext = {"What number comes after {}?",    "Which number follows {}?",
                            "Name the number after {}.",      "What comes after {}?",
                            "Which number is next after {}?", "What is {} and one more?"};
constexpr Wordings kCountUp = {
    "Count from {} to {}.",           "Say the numbers from {} to {}.",  "List the numbers from {} to {}.",
    "Please count from {} up to {}.", "Which numbers go from {} to {}?", "Write the numbers {} to {}."};
constexpr Wordings kSpell = {"Spell the word {}.",          "How do you spell {}?",       "Spell {}.",
                             "What are the letters of {}?", "Write {} letter by letter.", "Name the letters in {}."};
constexpr Wordings kLetters = {
    "How many letters has the word {}?", "How many letters are in {}?",          "Count the letters of {}.",
    "How long is the word {}?",          "What is the number of letters in {}?", "Tell me how many letters {} has."};
constexpr Wordings kRepeat = {"Repeat: {}",          "Say {}.",          "Write {}.",
                              "Repeat after me: {}", "Please write {}.", "Copy this: {}"};
constexpr Wordings kFirstLetter = {"What is the first letter of {}?",  "With which letter does {} begin?",
                                   "Which letter does {} start with?", "Name the first letter of {}.",
                                   "{} begins with which letter?",     "Tell me the first letter of {}."};
constexpr Wordings kOrder = {"Put in order: {}",           "Sort these words: {}",
                             "Sort from A to Z: {}",       "Order these words: {}",
                             "Bring these into order: {}", "Write in order of the alphabet: {}"};
constexpr Wordings kOpposite = {"What is the opposite of {}?",          "Name the opposite of {}.",
                                "Which word means the opposite of {}?", "The opposite of {} is what?",
                                "Tell me the opposite of {}.",          "What is not {} but the reverse?"};
constexpr Wordings kToChinese = {
    "How do you say {} in Chinese?", "Translate {} into Chinese.", "What is {} in Chinese?",
    "Write {} in Chinese.",          "Say {} in Chinese.",         "The Chinese for {}?"};
constexpr Wordings kToEnglish = {"{}用英语怎么说？", "把{}翻译成英语。",   "{}的英文是什么？",
                                 "请用英语说{}。",   "{}在英语里叫什么？", "英语里{}怎么说？"};
constexpr Wordings kCorners = {
    "How many corners has a {}?", "How many corners does a {} have?",       "Count the corners of a {}.",
    "A {} has how many corners?", "What is the number of corners of a {}?", "Tell me how many corners a {} has."};

struct Pair {
  std::string_view one, other;
};
constexpr std::array<Pair, 20> kOpposites = {
    {{"big", "small"},  {"hot", "cold"},    {"old", "new"},    {"up", "down"},   {"left", "right"},
     {"day", "night"},  {"black", "white"}, {"open", "shut"},  {"fast", "slow"}, {"full", "empty"},
     {"wet", "dry"},    {"high", "low"},    {"long", "short"}, {"rich", "poor"}, {"hard", "soft"},
     {"loud", "quiet"}, {"early", "late"},  {"first", "last"}, {"good", "bad"},  {"yes", "no"}}};
constexpr std::array<Pair, 5> kCornerCounts = {
    {{"square", "4"}, {"triangle", "3"}, {"circle", "0"}, {"diamond", "4"}, {"cross", "12"}}};

std::string digits(int64_t n) { return std::to_string(n); }

void append(std::string& list, std::string_view separator, std::string_view item) {
  if (!list.empty()) list += separator;
  list += item;
}

}  // namespace

Turn ask_text(const Lexicon& lexicon, double chinese_share, Draws& draws) {
  Turn turn;
  turn.skill = Skill::kText;
  if (draws.chance(chinese_share)) {
    const bool colour = draws.chance(0.5);
    const size_t at = draws.index(colour ? kNumPaints : kNumShapes);
    const std::string_view english = colour ? name_of(paint_at(at)).english : name_of(shape_at(at)).one;
    const std::string_view chinese = colour ? name_of(paint_at(at)).chinese : name_of(shape_at(at)).chinese;
    const bool to_chinese = draws.chance(0.5);
    turn.question = to_chinese ? worded(draws.pick(kToChinese), english) : worded(draws.pick(kToEnglish), chinese);
    turn.answer = to_chinese ? chinese : english;
    return turn;
  }
  const int64_t a = draws.between(0, 50), b = draws.between(0, 49);
  const std::string_view word = draws.pick(lexicon.words());
  switch (draws.between(0, 12)) {
    case 0:
      turn.question = worded(draws.pick(kSum), digits(a), digits(b));
      turn.answer = digits(a + b);
      break;
    case 1:
      turn.question = worded(draws.pick(kDifference), digits(a + b), digits(b));
      turn.answer = digits(a);
      break;
    case 2: {
      const int64_t other = a == b ? b + 1 : b;
      turn.question = worded(draws.pick(kLargerNumber), digits(a), digits(other));
      turn.answer = digits(std::max(a, other));
      break;
    }
    case 3:
      turn.question = worded(draws.pick(kNext), digits(a + b));
      turn.answer = digits(a + b + 1);
      break;
    case 4: {
      const int64_t last = a + draws.between(2, 9);
      turn.question = worded(draws.pick(kCountUp), digits(a), digits(last));
      for (int64_t i = a; i <= last; ++i) append(turn.answer, ", ", digits(i));
      break;
    }
    case 5:
      turn.question = worded(draws.pick(kSpell), word);
      for (const char& c : word) append(turn.answer, " ", {&c, 1});
      break;
    case 6:
      turn.question = worded(draws.pick(kLetters), word);
      turn.answer = digits(static_cast<int64_t>(word.size()));
      break;
    case 7:
    case 8: {
      // Copying is what boxes and reading need most.
      for (int64_t i = draws.between(1, 4); i > 0; --i) append(turn.answer, " ", lexicon.written_word(draws));
      turn.question = worded(draws.pick(kRepeat), turn.answer);
      break;
    }
    case 9:
      turn.question = worded(draws.pick(kFirstLetter), word);
      turn.answer = word.substr(0, 1);
      break;
    case 10: {
      std::vector<std::string_view> words = lexicon.goods(static_cast<size_t>(draws.between(2, 5)), draws);
      std::string list, sorted;
      for (const std::string_view w : words) append(list, ", ", w);
      std::sort(words.begin(), words.end());
      for (const std::string_view w : words) append(sorted, ", ", w);
      turn.question = worded(draws.pick(kOrder), list);
      turn.answer = sorted;
      break;
    }
    case 11: {
      const Pair& pair = draws.pick(kOpposites);
      const bool forward = draws.chance(0.5);
      turn.question = worded(draws.pick(kOpposite), forward ? pair.one : pair.other);
      turn.answer = forward ? pair.other : pair.one;
      break;
    }
    default: {
      const Pair& shape = draws.pick(kCornerCounts);
      turn.question = worded(draws.pick(kCorners), shape.one);
      turn.answer = shape.other;
    }
  }
  return turn;
}

}  // namespace vl2::data::synth
