// vl2 tiles: the grid a picture is cut into, its tiles, and the tokens it takes.
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "apps/cli/commands.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/output_file.h"
#include "apps/cli/terminal.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/image/encode.h"
#include "core/image/tiling.h"
#include "core/processor/processor_config.h"

namespace vl2::cli {
namespace {

struct TilesOptions {
  std::string model, picture, folder;
  PictureOptions pictures;
  bool json = false, no_tiling = false;
};

struct TiledPicture {
  int64_t width = 0, height = 0, tile_size = 0, tokens = 0;
  TileGrid grid;
  std::string rgb_sha256;
  std::vector<uint8_t> pixels;  // [tiles][size][size][3]

  std::span<const uint8_t> tile(int64_t i) const {
    const auto bytes = static_cast<size_t>(tile_size * tile_size * 3);
    return std::span(pixels).subspan(static_cast<size_t>(i) * bytes, bytes);
  }
  std::string tile_sha256(int64_t i) const { return sha256_hex(std::as_bytes(tile(i))); }
  // "global", "local row 0 column 1": rows and columns of the grid
  std::string tile_name(int64_t i) const {
    return i == 0 ? "global" : fmt::format("local row {} column {}", (i - 1) / grid.wide, (i - 1) % grid.wide);
  }
};

TiledPicture tile_picture(const TilesOptions& options) {
  // Without a model: the releases' settings, which are the defaults.
  const ProcessorConfig config =
      options.model.empty() ? ProcessorConfig{} : load_processor_config(find_model(options.model));
  const Image image = read_picture(options.picture, options.pictures);
  TiledPicture result;
  result.width = image.width;
  result.height = image.height;
  result.tile_size = config.tile_size();
  result.grid = choose_grid(image.width, image.height, config.candidate_resolutions, !options.no_tiling);
  check_can_tile(image.width, image.height, result.grid, result.tile_size,
                 options.picture == "-" ? "the picture on stdin" : options.picture);
  result.tokens = num_vision_tokens(result.grid, config.tokens_per_side());
  result.rgb_sha256 = sha256_hex(std::as_bytes(std::span(image.rgb)));
  result.pixels = cut_tiles(image, result.grid, result.tile_size);
  return result;
}

// DIR/tile-00-global.png, DIR/tile-01-r0-c0.png, ...
std::filesystem::path tile_path(const std::filesystem::path& folder, const TiledPicture& picture, int64_t i) {
  if (i == 0) return folder / "tile-00-global.png";
  return folder / fmt::format("tile-{:02}-r{}-c{}.png", i, (i - 1) / picture.grid.wide, (i - 1) % picture.grid.wide);
}

void write_tiles(const std::filesystem::path& folder, const TiledPicture& picture) {
  for (int64_t i = 0; i < picture.grid.num_tiles(); ++i) {
    const std::span<const uint8_t> pixels = picture.tile(i);
    save_image(tile_path(folder, picture, i), {picture.tile_size, picture.tile_size, {pixels.begin(), pixels.end()}});
  }
}

std::string as_json(const TiledPicture& picture) {
  nlohmann::ordered_json out;
  out["size"] = {picture.width, picture.height};
  out["rgb_sha256"] = picture.rgb_sha256;
  out["grid"] = {picture.grid.wide, picture.grid.high};
  out["tokens"] = picture.tokens;
  out["tile_sha256"] = nlohmann::ordered_json::array();
  for (int64_t i = 0; i < picture.grid.num_tiles(); ++i) out["tile_sha256"].push_back(picture.tile_sha256(i));
  return out.dump() + "\n";
}

std::string as_text(const TiledPicture& picture) {
  std::string out = fmt::format(
      "picture  {} x {} pixels\ngrid     {} x {} tiles of {} pixels, and the global view\ntokens   {}\n", picture.width,
      picture.height, picture.grid.wide, picture.grid.high, picture.tile_size, picture.tokens);
  for (int64_t i = 0; i < picture.grid.num_tiles(); ++i)
    out += fmt::format("tile {:2}  {}  {}\n", i, picture.tile_sha256(i), picture.tile_name(i));
  return out;
}

int run(const TilesOptions& options) {
  if (!options.folder.empty()) {
    std::error_code error;
    std::filesystem::create_directories(options.folder, error);
    if (error) fail(ErrorCode::kIo, "{}: cannot create this folder: {}", options.folder, error.message());
    check_writable(std::filesystem::path(options.folder) / "tile-00-global.png");
  }
  const TiledPicture picture = tile_picture(options);
  if (!options.folder.empty()) write_tiles(options.folder, picture);
  write_stdout(options.json ? as_json(picture) : as_text(picture));
  return kExitOk;
}

}  // namespace

RunCommand declare_tiles(CLI::App& app) {
  const auto options = std::make_shared<TilesOptions>();
  app.add_option("-i,--image", options->picture, "The picture: JPEG, PNG, WebP, BMP or GIF; - reads stdin")
      ->type_name("IMAGE")
      ->required();
  app.add_option("-m,--model", options->model,
                 "Use this model's tile size and grids (default: those of the DeepSeek-VL2 releases)")
      ->type_name("MODEL");
  app.add_flag("--no-tiling", options->no_tiling, "One local tile, as for pictures in a conversation of three or more");
  app.add_option("-o,--output", options->folder, "Write the tiles into this folder as PNG")->type_name("DIR");
  app.add_flag("--json", options->json, "One JSON object: size, rgb_sha256, grid, tokens, tile_sha256");
  add_picture_options(app, options->pictures);
  app.footer(
      "sha256 are of raw 8-bit RGB bytes, row by row: of the decoded picture, and of each tile, the global view\n"
      "first, then local tiles row by row. Grids and sizes are width x height.\n\n"
      "Example:\n  vl2 tiles -i examples/5-wide.png -o build/tiles");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli
