// Makes the pictures of the synthetic sets. What is drawn is legible at the scale the model sees: letters at least 14
// pixels an em of a tile (captions of axes 13), things at least 24 pixels, gaps between them, colours that stand out.
//
// A painter uses the faces and the stream of draws it was given; one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/synth/draws.h"
#include "data/synth/scene.h"
#include "data/synth/type_faces.h"
#include "data/synth/words.h"

namespace vl2::data::synth {

struct Canvas {
  int64_t width = 0, height = 0;
  double unit = 1;  // as Scene::unit
};
// Mostly one tile or less, some wider or taller pictures that are cut into two to four tiles.
Canvas draw_canvas(int64_t tile, bool one_tile, Draws& draws);
// How many pixels of the picture become one of its tiles: tiles as the releases choose them, with this tile size.
double unit_of(int64_t width, int64_t height, int64_t tile);

class ScenePainter {
 public:
  ScenePainter(TypeFaces& faces, const Lexicon& lexicon, int64_t tile, Draws& draws)
      : faces_(faces), lexicon_(lexicon), tile_(tile), draws_(draws) {}

  struct ShapeOptions {
    bool crowd = false;       // several of one kind, for counting
    double text_share = 0.3;  // how often a word or a number stands among the shapes
    bool one_tile = false;
  };
  Scene shapes(const ShapeOptions& options);
  // Words and numbers, sometimes with shapes around them.
  Scene texts(double chinese_share, bool one_tile);
  Scene chart();
  Scene table();
  Scene receipt();
  // Texts of shapes() and texts() from now on know where their letters end.
  void find_letters() { letters_ = true; }

 private:
  struct Line {
    std::string text;
    PixelBox ink;
    TextMask mask;
  };

  Scene start(const Canvas& canvas, bool dark);
  std::optional<PixelBox> find_room(const Scene& scene, double width, double height, double gap);
  bool add_shape(Scene& scene, Shape shape, Paint paint, double size);
  // kWord, kNumber or kChinese at a free place; false if there is no room for it.
  bool add_text(Scene& scene, TextKind kind, std::vector<Paint>& paints, double smallest, double largest);
  // The text's ink begins (align 0), is centred (0.5) or ends (1) at x, with its middle at y. Its box.
  PixelBox write(Image& image, size_t face, std::string_view text, double em, double x, double y, double align,
                 Colour colour);
  std::vector<double> letter_ends(TextKind kind, size_t face, const std::string& text, int64_t size);
  double width_of(size_t face, std::string_view text, double em);

  TypeFaces& faces_;
  const Lexicon& lexicon_;
  int64_t tile_;
  Draws& draws_;
  bool letters_ = false;
};

}  // namespace vl2::data::synth
