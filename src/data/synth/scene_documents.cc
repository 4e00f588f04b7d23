// Bar charts, tables and receipts.
#include <algorithm>
#include <array>
#include <cmath>

#include "data/synth/scene_painter.h"

namespace vl2::data::synth {
namespace {

constexpr Colour kInk{30, 30, 34};
constexpr Colour kLine{150, 150, 156};
constexpr Colour kFaintLine{205, 205, 210};
constexpr Colour kShade{214, 222, 234};

struct TableTheme {
  std::string_view first;
  bool people;  // rows are named after people, else after goods
  std::array<std::string_view, 3> others;
};
constexpr std::array<TableTheme, 4> kThemes = {{{"name", true, {"age", "score", "height"}},
                                                {"item", false, {"price", "stock", "weight"}},
                                                {"team", true, {"wins", "games", "points"}},
                                                {"food", false, {"cost", "fat", "sugar"}}}};
constexpr std::array<std::string_view, 6> kShops = {"SHOP", "MARKET", "CAFE", "STORE", "BAKERY", "KIOSK"};
constexpr std::array<std::string_view, 8> kTitles = {"Sales",  "Visits", "Score", "Rain",
                                                     "Points", "Books",  "Cars",  "Votes"};

// A thin line that fills whole pixels, so that it looks the same wherever it lies.
void rule(Image& image, double x1, double y1, double x2, double y2, double thick, Colour colour) {
  const double t = std::max(1.0, std::round(thick));
  x1 = std::round(x1);
  y1 = std::round(y1);
  fill_box(image, {x1, y1, std::max(std::round(x2), x1 + t), std::max(std::round(y2), y1 + t)}, colour);
}

// Small print on the smallest pictures would have fewer pixels than letters need.
Canvas document_canvas(int64_t tile, Draws& draws) {
  Canvas canvas = draw_canvas(tile, false, draws);
  while (canvas.unit < 0.75) canvas = draw_canvas(tile, false, draws);
  return canvas;
}

std::string capitalised(std::string_view word) {
  std::string text(word);
  text[0] = static_cast<char>(text[0] >= 'a' && text[0] <= 'z' ? text[0] - 'a' + 'A' : text[0]);
  return text;
}

}  // namespace

Scene ScenePainter::chart() {
  const Canvas canvas = document_canvas(tile_, draws_);
  Scene scene = start(canvas, false);
  const double u = canvas.unit;
  const auto width = static_cast<double>(canvas.width), height = static_cast<double>(canvas.height);
  const size_t face = draws_.index(faces_.size());
  BarChart chart;
  chart.shows_values = draws_.chance(0.5);
  if (draws_.chance(0.5)) chart.title = draws_.pick(kTitles);

  constexpr std::array<int64_t, 5> kTops = {5, 10, 20, 50, 100};
  const int64_t top_value = draws_.pick(kTops), tick = top_value / 5, grain = std::max<int64_t>(1, top_value / 10);
  const double tick_em = 13 * u, label_em = 15 * u;
  const double left = 8 * u + width_of(face, std::to_string(top_value), tick_em);
  const double right = width - 5 * u, bottom = height - 22 * u;
  const double top = (chart.title.empty() ? 10 : 26) * u + (chart.shows_values ? 14 * u : 0);
  const auto y_of = [&](double value) { return bottom - value / static_cast<double>(top_value) * (bottom - top); };

  const auto most = static_cast<int64_t>((right - left) / (30 * u));
  const int64_t n = draws_.between(2, std::clamp<int64_t>(most, 2, 5));
  const double slot = (right - left) / static_cast<double>(n);
  const double kind = draws_.real(0, 1);
  std::vector<std::string_view> words =
      kind < 0.5 ? lexicon_.names(static_cast<size_t>(n), draws_) : lexicon_.goods(static_cast<size_t>(n), draws_);
  bool letters = draws_.chance(0.4);
  for (const std::string_view word : words) letters = letters || width_of(face, word, label_em) > slot - 3 * u;

  chart.many_colours = draws_.chance(0.4);
  std::vector<Paint> paints = paints_on(false);
  draws_.shuffle(paints);
  for (int64_t value = 0; value <= top_value; value += tick) {
    rule(scene.image, left, y_of(static_cast<double>(value)), right, 0, u, value == 0 ? kLine : kFaintLine);
    write(scene.image, face, std::to_string(value), tick_em, left - 3 * u, y_of(static_cast<double>(value)), 1, kInk);
  }
  rule(scene.image, left, top, 0, bottom, u, kLine);
  const double bar_width = slot * draws_.real(0.5, 0.8);
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<size_t>(i);
    Bar bar;
    bar.label = letters ? std::string(1, static_cast<char>('A' + i)) : std::string(words[at]);
    bar.value = draws_.between(1, top_value / grain) * grain;
    bar.paint = paints[chart.many_colours ? at : 0];
    const double middle = left + (static_cast<double>(i) + 0.5) * slot;
    bar.box = {middle - bar_width / 2, y_of(static_cast<double>(bar.value)), middle + bar_width / 2, bottom};
    const Colour colour = mix_paint(bar.paint, draws_);
    fill_box(scene.image, bar.box, colour);
    write(scene.image, face, bar.label, label_em, middle, bottom + 11 * u, 0.5, kInk);
    scene.cells.push_back({{middle - slot / 2, top, middle + slot / 2, bottom}, std::to_string(bar.value)});
    scene.cells.push_back({{middle - slot / 2, bottom, middle + slot / 2, height}, bar.label});
    if (chart.shows_values)
      write(scene.image, face, std::to_string(bar.value), tick_em, middle, bar.box.y1 - 8 * u, 0.5, kInk);
    chart.bars.push_back(std::move(bar));
  }
  if (!chart.title.empty()) write(scene.image, face, chart.title, 16 * u, width / 2, 12 * u, 0.5, kInk);
  scene.chart = std::move(chart);
  return scene;
}

Scene ScenePainter::table() {
  const Canvas canvas = document_canvas(tile_, draws_);
  Scene scene = start(canvas, false);
  const double u = canvas.unit;
  const auto width = static_cast<double>(canvas.width), height = static_cast<double>(canvas.height);
  const size_t face = draws_.index(faces_.size());
  const TableTheme& theme = draws_.pick(kThemes);
  const auto columns = static_cast<size_t>(draws_.between(2, width / u > 300 ? 4 : 3));
  const auto rows = static_cast<size_t>(draws_.between(2, height / u > 300 ? 6 : 4));

  Table table;
  table.columns.emplace_back(theme.first);
  std::vector<std::string_view> others(theme.others.begin(), theme.others.end());
  draws_.shuffle(others);
  for (size_t i = 1; i < columns; ++i) table.columns.emplace_back(others[i - 1]);
  const std::vector<std::string_view> keys = theme.people ? lexicon_.names(rows, draws_) : lexicon_.goods(rows, draws_);
  for (const std::string_view key : keys) {
    std::vector<std::string> row = {std::string(key)};
    for (size_t i = 1; i < columns; ++i) row.push_back(std::to_string(draws_.between(1, 99)));
    table.rows.push_back(std::move(row));
  }

  // As large as fits, 14 to 20 pixels an em.
  double em = draws_.real(15, 20) * u;
  const auto widest = [&](size_t column) {
    double most = width_of(face, table.columns[column], em);
    for (const auto& row : table.rows) most = std::max(most, width_of(face, row[column], em));
    return most + 0.9 * em;
  };
  const auto total = [&] {
    double sum = 0;
    for (size_t i = 0; i < columns; ++i) sum += widest(i);
    return sum;
  };
  while (em > 14 * u && total() > width - 8 * u) em -= u;
  const double spare = std::max(0.0, width - 8 * u - total()) * draws_.real(0.2, 1);
  const double lines = static_cast<double>(rows) + 1;
  const double row_height = std::min(em * draws_.real(1.5, 2.1), (height - 8 * u) / lines);
  std::vector<double> edges;
  double at = (width - total() - spare) / 2;
  for (size_t i = 0; i < columns; ++i) {
    edges.push_back(at);
    at += widest(i) + spare / static_cast<double>(columns);
  }
  edges.push_back(at);
  const double top = (height - row_height * lines) / 2;
  const auto row_y = [&](size_t row) { return top + row_height * static_cast<double>(row); };

  const int64_t style = draws_.between(0, 2);  // grid, rules only, header shaded
  if (style != 1) fill_box(scene.image, {edges.front(), top, edges.back(), row_y(1)}, kShade);
  for (size_t row = 0; row <= rows + 1; ++row)
    if (style != 2 || row <= 1 || row > rows) rule(scene.image, edges.front(), row_y(row), edges.back(), 0, u, kLine);
  if (style == 0)
    for (const double x : edges) rule(scene.image, x, top, 0, row_y(rows + 1), u, kLine);
  for (size_t row = 0; row <= rows; ++row)
    for (size_t column = 0; column < columns; ++column) {
      const std::string& text = row == 0 ? table.columns[column] : table.rows[row - 1][column];
      const double y = row_y(row) + row_height / 2;
      scene.cells.push_back({{edges[column], row_y(row), edges[column + 1], row_y(row + 1)}, text});
      if (column == 0)
        write(scene.image, face, text, em, edges[0] + 0.4 * em, y, 0, kInk);
      else
        write(scene.image, face, text, em, edges[column + 1] - 0.4 * em, y, 1, kInk);
    }
  scene.table = std::move(table);
  return scene;
}

Scene ScenePainter::receipt() {
  const Canvas canvas = document_canvas(tile_, draws_);
  Scene scene = start(canvas, false);
  const double u = canvas.unit;
  const auto width = static_cast<double>(canvas.width), height = static_cast<double>(canvas.height);
  const size_t face = draws_.index(faces_.size());
  const double em = draws_.real(15, 18) * u;
  const auto n = static_cast<size_t>(draws_.between(2, height / u > 300 ? 6 : 4));

  Receipt receipt;
  receipt.shop = capitalised(draws_.pick(lexicon_.words())) + " " + std::string(draws_.pick(kShops));
  for (const std::string_view item : lexicon_.goods(n, draws_)) {
    const int64_t cents = draws_.between(1, 9) * 100 + draws_.between(0, 19) * 5;
    receipt.lines.push_back({std::string(item), cents});
    receipt.total_cents += cents;
  }

  // The paper: as wide as a receipt is, white, with room for its lines.
  const double paper = std::min(width - 8 * u, std::max(150 * u, 11.5 * em) * draws_.real(1, 1.2));
  const double lines = static_cast<double>(n) + 2.6;
  const double line = std::min(em * draws_.real(1.35, 1.8), (height - 12 * u) / lines);
  const double left = draws_.real(4 * u, std::max(4.5 * u, width - 4 * u - paper)), right = left + paper;
  const double top = (height - line * lines) / 2, pad = 7 * u;
  fill_box(scene.image, {left, top - 3 * u, right, top + line * lines + 3 * u}, {252, 252, 250});
  double y = top + line / 2;
  double shop_em = em;
  while (shop_em > 12 * u && width_of(face, receipt.shop, shop_em) > paper - 6 * u) shop_em -= u;
  write(scene.image, face, receipt.shop, shop_em, (left + right) / 2, y, 0.5, kInk);
  y += 0.3 * line;
  for (const Receipt::Line& item : receipt.lines) {
    y += line;
    const double middle = (left + right) / 2;
    scene.cells.push_back({{left, y - line / 2, middle, y + line / 2}, item.item});
    scene.cells.push_back({{middle, y - line / 2, right, y + line / 2}, format_price(item.cents)});
    write(scene.image, face, item.item, em, left + pad, y, 0, kInk);
    write(scene.image, face, format_price(item.cents), em, right - pad, y, 1, kInk);
  }
  y += 0.65 * line;
  rule(scene.image, left + pad, y, right - pad, 0, u, kLine);
  y += 0.6 * line;
  write(scene.image, face, draws_.chance(0.5) ? "TOTAL" : "Total", em, left + pad, y, 0, kInk);
  write(scene.image, face, format_price(receipt.total_cents), em, right - pad, y, 1, kInk);
  scene.cells.push_back({{(left + right) / 2, y - line / 2, right, y + line / 2}, format_price(receipt.total_cents)});
  scene.receipt = std::move(receipt);
  return scene;
}

}  // namespace vl2::data::synth
