#include "train/input/picture_labels.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/image/tiling.h"

namespace vl2::train {
namespace {

constexpr const char* kNothing = ".";

class Labels {
 public:
  explicit Labels(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  int32_t operator()(const std::string& text) {
    const auto [found, added] = ids_.emplace(text, 0);
    if (added) {
      const std::vector<int32_t> ids = tokenizer_.encode(text);
      VL2_CHECK(!ids.empty(), "no token for a label");
      found->second = ids.front();
    }
    return found->second;
  }

 private:
  const Tokenizer& tokenizer_;
  std::map<std::string, int32_t> ids_;
};

// The tokens of one view: a raster of tiles, each row of tokens followed by a newline.
struct View {
  int64_t tiles_wide = 1, tiles_high = 1;
  bool global = true;
};

class PictureLabeller {
 public:
  PictureLabeller(const TiledImage& image, const ProcessorConfig& config, std::span<const PictureRegion> regions,
                  int64_t index, Labels& labels)
      : image_(image), config_(config), regions_(regions), index_(index), labels_(labels) {}

  // `labels`: from the token behind the view's first one on.
  int64_t label(const View& view, std::span<int32_t> labels) {
    const int64_t side = config_.tokens_per_side(), tile = config_.tile_size();
    const PadPlan plan =
        plan_pad(image_.original_width, image_.original_height, view.tiles_wide * tile, view.tiles_high * tile);
    size_t at = 0;
    for (int64_t y = 0; y < view.tiles_high * side; ++y) {
      const double in_y = (middle(y) - static_cast<double>(plan.y)) / static_cast<double>(plan.new_h) * 999;
      for (int64_t x = 0; x < view.tiles_wide * side; ++x) {
        const double in_x = (middle(x) - static_cast<double>(plan.x)) / static_cast<double>(plan.new_w) * 999;
        labels[at++] = labels_(shown_at(in_x, in_y, view.global));
      }
      ++at;  // the newline
    }
    return static_cast<int64_t>(at);
  }

 private:
  // Pixels from the view's edge to the middle of a token's patches; the last token of a tile may have fewer of them.
  double middle(int64_t token) const {
    const int64_t side = config_.tokens_per_side(), pixels = config_.patch_size * config_.downsample_ratio;
    const int64_t read = config_.tile_size() / config_.patch_size * config_.patch_size;
    const int64_t begin = token % side * pixels, end = std::min(begin + pixels, read);
    const int64_t tile = token / side;
    return static_cast<double>(tile * config_.tile_size()) + static_cast<double>(begin + end) / 2;
  }

  const std::string& shown_at(double x, double y, bool global) const {
    static const std::string nothing = kNothing;
    for (size_t i = regions_.size(); i-- > 0;) {
      const PictureRegion& region = regions_[i];
      if (region.image == index_ && x >= region.x1 && x <= region.x2 && y >= region.y1 && y <= region.y2)
        return global ? region.global_label : region.local_label;
    }
    return nothing;
  }

  const TiledImage& image_;
  const ProcessorConfig& config_;
  std::span<const PictureRegion> regions_;
  int64_t index_;
  Labels& labels_;
};

}  // namespace

void label_pictures(MultimodalPrompt& prompt, std::span<const PictureRegion> regions, const Processor& processor,
                    bool global_view_first) {
  Labels labels(processor.tokenizer());
  size_t at = 0;
  for (size_t i = 0; i < prompt.images.size(); ++i) {
    while (prompt.images_seq_mask[at] == 0) ++at;
    const auto tokens = static_cast<size_t>(prompt.num_image_tokens[i]);
    const auto index = static_cast<int64_t>(i);
    const bool labelled =
        std::any_of(regions.begin(), regions.end(), [&](const PictureRegion& r) { return r.image == index; });
    if (labelled) {
      const TiledImage& image = prompt.images[i];
      PictureLabeller labeller(image, processor.config(), regions, index, labels);
      // Every row ends with a newline, so that the label behind its last token is still the picture's.
      std::span<int32_t> own = std::span(prompt.labels).subspan(at + 1, tokens - 1);
      const View global{1, 1, true}, local{image.tiles_wide, image.tiles_high, false};
      const int64_t first = labeller.label(global_view_first ? global : local, own);
      labeller.label(global_view_first ? local : global, own.subspan(static_cast<size_t>(first) + 1));  // a separator
    }
    at += tokens;
  }
}

}  // namespace vl2::train
