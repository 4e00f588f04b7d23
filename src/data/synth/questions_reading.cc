// Words and numbers, charts, tables and receipts.
#include <algorithm>
#include <string>

#include "data/synth/questions.h"

namespace vl2::data::synth {
namespace {

using Wordings = std::array<std::string_view, 6>;

constexpr std::array<std::string_view, 7> kRead = {"What does the text say?",         "Read the text.",
                                                   "What is written in the picture?", "What text is in the picture?",
                                                   "What is written here?",           "Please read the text.",
                                                   "Tell me what the text says."};
constexpr Wordings kReadWord = {
    "What word is in the picture?", "Read the word.",         "Which word is written in the picture?",
    "What does the word say?",      "Which word do you see?", "Tell me the word in the picture."};
constexpr Wordings kReadNumber = {"What number is in the picture?",
                                  "Read the number.",
                                  "Which number is written in the picture?",
                                  "What is the number?",
                                  "Which number do you see?",
                                  "Tell me the number in the picture."};
constexpr Wordings kReadColoured = {"What does the {} text say?", "Read the {} text.",
                                    "What is written in {}?",     "Which text is {}?",
                                    "What is the {} text?",       "Tell me what the {} text says."};
constexpr Wordings kReadAll = {"Read all the text.",
                               "Read every line.",
                               "What are all the texts in the picture?",
                               "List all words and numbers.",
                               "Read all texts from top to bottom.",
                               "What texts are in the picture?"};
constexpr Wordings kReadChinese = {"图中写了什么？", "请读出文字。",     "图片里的文字是什么？",
                                   "写的是什么？",   "文字内容是什么？", "读一下图中的文字。"};

constexpr std::array<std::string_view, 7> kBarValue = {"What is the value of {}?", "How high is the bar {}?",
                                                       "What value does {} have?", "What is the value of the bar {}?",
                                                       "Read the value of {}.",    "How much is {}?",
                                                       "Tell me the value of {}."};
constexpr Wordings kHighest = {"Which bar is the highest?",    "Which bar is highest?",
                               "Which has the largest value?", "What is the label of the highest bar?",
                               "Name the highest bar.",        "Which one has the highest value?"};
constexpr Wordings kLowest = {"Which bar is the lowest?",      "Which bar is lowest?",
                              "Which has the smallest value?", "What is the label of the lowest bar?",
                              "Name the lowest bar.",          "Which one has the lowest value?"};
constexpr Wordings kHigherBar = {
    "Which is higher, {} or {}?", "Which has the larger value, {} or {}?", "Is {} or {} higher?",
    "What is higher: {} or {}?",  "Which one is larger, {} or {}?",        "Of {} and {}, which is higher?"};
constexpr Wordings kHowManyBars = {"How many bars are there?",           "Count the bars.",
                                   "How many bars does the chart have?", "How many bars can you see?",
                                   "What is the number of bars?",        "Tell me how many bars there are."};
constexpr Wordings kBarColour = {"What colour is the bar {}?",       "What color is the bar {}?",
                                 "Which colour does {} have?",       "Tell me the colour of the bar {}.",
                                 "What is the color of the bar {}?", "Name the colour of the bar {}."};

constexpr Wordings kCell = {"What is the {} of {}?", "What {} does {} have?",      "Read the {} of {}.",
                            "Tell me the {} of {}.", "Which {} stands beside {}?", "Look up the {} of {}."};
constexpr Wordings kHowManyRows = {"How many rows does the table have?", "How many rows are there?",
                                   "Count the rows of the table.",       "How many rows can you see below the header?",
                                   "What is the number of rows?",        "Tell me how many rows there are."};
constexpr Wordings kHigherRow = {"Which has the higher {}, {}?",     "Who or what has the larger {}, {}?",
                                 "Which {} is higher, that of {}?",  "Compare the {}: {}?",
                                 "Which one has the higher {}: {}?", "Of these, which has the larger {}, {}?"};

constexpr Wordings kTotal = {"What is the total?",       "How much is it in total?",    "Read the total.",
                             "What is the total price?", "How much was paid in total?", "Tell me the total."};
constexpr Wordings kPrice = {"How much is the {}?",       "What does the {} cost?", "What is the price of the {}?",
                             "Read the price of the {}.", "How much was the {}?",   "Tell me the price of the {}."};
constexpr Wordings kHowManyItems = {"How many items are on the receipt?", "Count the items.",
                                    "How many items were bought?",        "How many items are there?",
                                    "What is the number of items?",       "Tell me how many items there are."};
constexpr Wordings kDearest = {"Which item costs the most?",
                               "What is the most expensive item?",
                               "Which item is the most expensive?",
                               "Name the most expensive item.",
                               "What cost the most?",
                               "Which item has the highest price?"};

// The place of the only largest (sign 1) or smallest (-1) value.
template <typename Values>
std::optional<size_t> extreme(const Values& values, int64_t sign) {
  size_t best = 0;
  for (size_t i = 1; i < values.size(); ++i)
    if (sign * values[i] > sign * values[best]) best = i;
  if (std::count(values.begin(), values.end(), values[best]) > 1) return std::nullopt;
  return best;
}

std::optional<Turn> ask_bar(const BarChart& chart, Draws& draws) {
  const Bar& bar = draws.pick(chart.bars);
  Turn turn;
  turn.question = worded(draws.pick(kBarValue), bar.label);
  turn.answer = std::to_string(bar.value);
  turn.value = bar.value;
  return turn;
}

std::optional<Turn> compare_bars(const BarChart& chart, Draws& draws) {
  std::vector<int64_t> values;
  for (const Bar& bar : chart.bars) values.push_back(bar.value);
  Turn turn;
  if (draws.chance(0.5)) {
    const bool highest = draws.chance(0.6);
    const std::optional<size_t> at = extreme(values, highest ? 1 : -1);
    if (!at) return std::nullopt;
    turn.question = draws.pick(highest ? kHighest : kLowest);
    turn.answer = chart.bars[*at].label;
    return turn;
  }
  const Bar& a = draws.pick(chart.bars);
  const Bar& b = draws.pick(chart.bars);
  if (a.value == b.value) return std::nullopt;
  turn.question = worded(draws.pick(kHigherBar), a.label, b.label);
  turn.answer = (a.value > b.value ? a : b).label;
  return turn;
}

std::optional<Turn> ask_table(const Table& table, Draws& draws) {
  const std::vector<std::string>& row = draws.pick(table.rows);
  const size_t column = 1 + draws.index(table.columns.size() - 1);
  Turn turn;
  turn.question = worded(draws.pick(kCell), table.columns[column], row[0]);
  turn.answer = row[column];
  return turn;
}

std::optional<Turn> compare_rows(const Table& table, Draws& draws) {
  const std::vector<std::string>& a = draws.pick(table.rows);
  const std::vector<std::string>& b = draws.pick(table.rows);
  const size_t column = 1 + draws.index(table.columns.size() - 1);
  const int64_t in_a = std::stoll(a[column]), in_b = std::stoll(b[column]);
  if (in_a == in_b) return std::nullopt;
  Turn turn;
  turn.question = worded(draws.pick(kHigherRow), table.columns[column], a[0] + " or " + b[0]);
  turn.answer = in_a > in_b ? a[0] : b[0];
  return turn;
}

std::optional<Turn> ask_receipt(const Receipt& receipt, Draws& draws) {
  Turn turn;
  if (draws.chance(0.4)) {
    turn.question = draws.pick(kTotal);
    turn.answer = format_price(receipt.total_cents);
  } else {
    const Receipt::Line& line = draws.pick(receipt.lines);
    turn.question = worded(draws.pick(kPrice), line.item);
    turn.answer = format_price(line.cents);
  }
  return turn;
}

std::optional<Turn> compare_prices(const Receipt& receipt, Draws& draws) {
  std::vector<int64_t> cents;
  for (const Receipt::Line& line : receipt.lines) cents.push_back(line.cents);
  const std::optional<size_t> at = extreme(cents, 1);
  if (!at) return std::nullopt;
  Turn turn;
  turn.question = draws.pick(kDearest);
  turn.answer = receipt.lines[*at].item;
  return turn;
}

Turn counted(const Wordings& wordings, size_t n, Draws& draws) {
  Turn turn;
  turn.question = draws.pick(wordings);
  turn.answer = std::to_string(n);
  return turn;
}

}  // namespace

std::optional<Turn> ask_to_read(Skill skill, const Scene& scene, bool chinese, Draws& draws) {
  const TextKind kind = skill == Skill::kNumber ? TextKind::kNumber : TextKind::kWord;
  std::vector<const DrawnText*> wanted;
  for (const DrawnText& text : scene.texts)
    if (text.kind == kind || (kind == TextKind::kWord && text.kind == TextKind::kChinese)) wanted.push_back(&text);
  if (wanted.empty()) return std::nullopt;
  Turn turn;
  const DrawnText& text = *draws.pick(wanted);
  turn.answer = text.text;
  const double way = draws.real(0, 1);
  if (scene.texts.size() == 1 && (chinese || text.kind == TextKind::kChinese) && way < 0.5) {
    turn.question = draws.pick(kReadChinese);
  } else if (scene.texts.size() == 1 && (way < 0.6 || text.kind == TextKind::kChinese)) {
    turn.question = draws.pick(kRead);
  } else if (wanted.size() == 1 && text.kind != TextKind::kChinese && way < 0.8) {
    turn.question = draws.pick(kind == TextKind::kNumber ? kReadNumber : kReadWord);
  } else if (scene.texts.size() > 1 && way > 0.8) {
    turn.question = draws.pick(kReadAll);
    turn.answer.clear();
    for (const DrawnText& line : scene.texts) {
      if (!turn.answer.empty()) turn.answer += ", ";
      turn.answer += line.text;
    }
  } else {
    turn.question = worded(draws.pick(kReadColoured), name_of(text.paint).english);
  }
  return turn;
}

std::optional<Turn> ask_about_documents(Skill skill, const Scene& scene, Draws& draws) {
  const bool chart = scene.chart.has_value(), table = scene.table.has_value(), receipt = scene.receipt.has_value();
  switch (skill) {
    case Skill::kBar:
      return chart ? ask_bar(*scene.chart, draws) : std::nullopt;
    case Skill::kTable:
      return table ? ask_table(*scene.table, draws) : std::nullopt;
    case Skill::kReceipt:
      return receipt ? ask_receipt(*scene.receipt, draws) : std::nullopt;
    case Skill::kCount:
      if (chart) return counted(kHowManyBars, scene.chart->bars.size(), draws);
      if (table) return counted(kHowManyRows, scene.table->rows.size(), draws);
      return receipt ? std::optional(counted(kHowManyItems, scene.receipt->lines.size(), draws)) : std::nullopt;
    case Skill::kCompare:
      if (chart) return compare_bars(*scene.chart, draws);
      if (table) return compare_rows(*scene.table, draws);
      return receipt ? compare_prices(*scene.receipt, draws) : std::nullopt;
    case Skill::kColour: {
      if (!chart || !scene.chart->many_colours) return std::nullopt;
      const Bar& bar = draws.pick(scene.chart->bars);
      Turn turn;
      turn.question = worded(draws.pick(kBarColour), bar.label);
      turn.answer = name_of(bar.paint).english;
      return turn;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace vl2::data::synth
