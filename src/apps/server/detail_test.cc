// How finely pictures are cut, as requests say it: exact numbers of tokens.
#include "apps/server/server_test.h"
#include "core/base/base64.h"
#include "core/image/decode.h"

namespace vl2::server {
namespace {

constexpr int64_t kWhole = 210 + 1 + 14 * 15, kTwoTiles = 210 + 1 + 14 * 29;  // 1 x 1 and 2 x 1

class Detail : public testing::Test {
 protected:
  const std::string wide_ = data_url(picture_file("g15_768x384.png"));

  json part(const std::string& detail) const {
    json one = picture_part(wide_);
    if (!detail.empty()) one["image_url"]["detail"] = detail;
    return one;
  }
  json request(const std::vector<std::string>& details) const {
    json content = json::array();
    for (const std::string& detail : details) content.push_back(part(detail));
    content.push_back(text_part("What is this?"));
    json body = chat(content);
    body["max_tokens"] = 4;
    return body;
  }
  int64_t tokens(const std::vector<std::string>& details) {
    const HttpReply reply = server_.post("/v1/chat/completions", request(details));
    EXPECT_EQ(reply.status, 200) << reply.body;
    return reply.parsed().at("usage").at("prompt_tokens_details").at("image_tokens");
  }

  TestServer server_;
};

TEST_F(Detail, LowIsTheGlobalViewAndHighAlwaysTiles) {
  EXPECT_EQ(kWhole, 421);
  EXPECT_EQ(tokens({""}), kTwoTiles);
  EXPECT_EQ(tokens({"auto"}), kTwoTiles);
  EXPECT_EQ(tokens({"high"}), kTwoTiles);
  EXPECT_EQ(tokens({"low"}), kWhole);
  EXPECT_EQ(tokens({"low", "auto"}), kWhole + kTwoTiles);
  EXPECT_EQ(tokens({"auto", "auto", "auto"}), 3 * kWhole);
  EXPECT_EQ(tokens({"auto", "high", "low"}), 2 * kWhole + kTwoTiles);
}

// A picture that was encoded one way is not taken for the other.
TEST_F(Detail, CachesKeepThemApart) {
  const auto ask = [&](TestServer& server, const std::string& detail) {
    json body = request({detail});
    body["logprobs"] = true;
    return server.post("/v1/chat/completions", body).parsed().at("choices").at(0).at("logprobs");
  };
  const json low = ask(server_, "low"), high = ask(server_, "high"), again = ask(server_, "low");
  EXPECT_NE(low, high);
  EXPECT_EQ(low, again);
  TestServer fresh;
  EXPECT_EQ(ask(fresh, "high"), high);
  const EngineStats stats = server_.engine->stats();
  EXPECT_EQ(stats.picture_queries - stats.picture_hits, 2) << "the third was there";
  const TileCache::Counts tiles = server_.server->context().tiles().counts();
  EXPECT_EQ(tiles.queries, 3);
  EXPECT_EQ(tiles.hits, 1) << "the same file cut up otherwise is another picture";
}

TEST_F(Detail, OfOtherApis) {
  const auto responses = [&](const std::string& detail) {
    json picture = {{"type", "input_image"}, {"image_url", wide_}};
    if (!detail.empty()) picture["detail"] = detail;
    const json body = {{"input", json::array({user(json::array({picture}))})}};
    return server_.post("/v1/responses/input_tokens", body).parsed().at("input_tokens").get<int64_t>();
  };
  EXPECT_EQ(responses("") - responses("low"), kTwoTiles - kWhole);
  EXPECT_EQ(responses("high"), responses("auto"));
  const json picture = {{"type", "input_image"}, {"image_url", wide_}, {"detail", "ultra"}};
  const json wrong = {{"input", json::array({user(json::array({picture}))})}};
  EXPECT_EQ(server_.post("/v1/responses/input_tokens", wrong).error("code"), "unsupported_value");
  const json completion = {{"prompt", "<image>"}, {"images", {{{"url", wide_}, {"detail", "low"}}}}, {"max_tokens", 1}};
  EXPECT_EQ(
      server_.post("/v1/completions", completion).parsed().at("usage").at("prompt_tokens_details").at("image_tokens"),
      kWhole);
}

TEST_F(Detail, OfPlans) {
  const json body = {{"images", {{{"url", wide_}, {"detail", "low"}}, {{"url", wide_}}}}};
  const json images = server_.post("/v1/images/plan", body).parsed().at("images");
  EXPECT_EQ(images.at(0).at("grid"), json({1, 1}));
  EXPECT_EQ(images.at(0).at("tokens"), kWhole);
  EXPECT_EQ(images.at(1).at("grid"), json({2, 1}));
  EXPECT_EQ(images.at(1).at("tokens"), kTwoTiles);
}

TEST_F(Detail, APlanCanBeLookedAt) {
  const json body = {{"images", {{{"url", wide_}, {"detail", "low"}}, wide_}}, {"preview", true}};
  const json images = server_.post("/v1/images/plan", body).parsed().at("images");
  const auto picture = [&](size_t i) {
    const std::string url = images.at(i).at("preview");
    constexpr std::string_view kHead = "data:image/png;base64,";
    EXPECT_TRUE(url.starts_with(kHead));
    const std::string file = decode_base64(std::string_view(url).substr(kHead.size())).value();
    return decode_image(std::as_bytes(std::span(file)), "preview");
  };
  const int64_t tile = images.at(0).at("tile_size");
  const Image low = picture(0), tiled = picture(1);
  EXPECT_EQ(json({low.width, low.height}), images.at(0).at("best_resolution"));
  EXPECT_EQ(json({tiled.width, tiled.height}), images.at(1).at("best_resolution"));
  EXPECT_EQ(tiled.width, 2 * tile);
  EXPECT_EQ(images.at(0).at("width"), 768);
  EXPECT_EQ(images.at(0).at("height"), 384);
  EXPECT_EQ(images.at(0).at("resized"), json({tile, tile / 2}));
  EXPECT_EQ(images.at(0).at("offset"), json({0, tile / 4}));
  const auto pixel = [](const Image& image, int64_t x, int64_t y) {
    const auto at = static_cast<size_t>((y * image.width + x) * 3);
    return std::vector<int>{image.rgb[at], image.rgb[at + 1], image.rgb[at + 2]};
  };
  const std::vector<int> padding = {127, 127, 127};
  EXPECT_EQ(pixel(low, tile / 2, tile / 8), padding) << "above the picture";
  EXPECT_NE(pixel(low, tile / 2, 0), padding) << "the frame of the tile";
  EXPECT_NE(pixel(tiled, tile - 1, tile / 2), pixel(tiled, tile, tile / 2)) << "frames of two tiles";
  EXPECT_FALSE(server_.post("/v1/images/plan", {{"images", {wide_}}}).parsed().at("images").at(0).contains("preview"));
  const json many = {{"images", json(std::vector<std::string>(9, wide_))}, {"preview", true}};
  EXPECT_EQ(server_.post("/v1/images/plan", many).error("param"), "preview");
  EXPECT_EQ(server_.engine->stats().tiles, 0);
}

}  // namespace
}  // namespace vl2::server
