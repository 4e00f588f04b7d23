#include "core/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

const FillTensor kZeros = [](const TensorHeader&, std::span<std::byte>) {};

void fill_with_name_hash(const TensorHeader& header, std::span<std::byte> bytes) {
  const size_t value = std::hash<std::string>()(header.name);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>((value + i) & 0xff);
}

template <typename Fn>
std::string error_of(ErrorCode code, const Fn& fn) {
  try {
    fn();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

#define EXPECT_ERROR(error, text) EXPECT_NE((error).find(text), std::string::npos) << "error: " << (error)

TEST(Checkpoint, ShardsReadBackWhatWasWritten) {
  const TempFolder folder;
  const ModelConfig config = preset_config("test-base");
  const std::vector<WeightSpec> schema = weight_schema(config);
  write_sharded(folder.path(), tensor_headers(schema, DType::kBF16), fill_with_name_hash, 64 << 10);
  const auto num_shards = std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) - 1;
  EXPECT_GT(num_shards, 2);
  EXPECT_TRUE(fs::exists(folder / fmt::format("model-00002-of-{:06}.safetensors", num_shards)));
  const Checkpoint checkpoint(folder.path());
  checkpoint.check(config);
  EXPECT_EQ(checkpoint.names().size(), schema.size());
  EXPECT_EQ(checkpoint.num_bytes(), 2 * count_parameters(config).total);
  for (const WeightSpec& spec : schema) {
    const TensorView& tensor = checkpoint.at(spec.name);
    std::vector<std::byte> expected(tensor.num_bytes());
    fill_with_name_hash({spec.name, DType::kBF16, spec.shape}, expected);
    ASSERT_EQ(std::memcmp(tensor.data, expected.data(), expected.size()), 0) << spec.name;
    checkpoint.release(tensor);
    ASSERT_EQ(std::memcmp(tensor.data, expected.data(), expected.size()), 0) << "released data can still be read";
  }
  const auto index = nlohmann::json::parse(read_file(folder / "model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], checkpoint.num_bytes());
}

TEST(Checkpoint, OneShardIsNamedAsTheReleasesNameIt) {
  const TempFolder folder;
  const std::vector<TensorHeader> headers = {{"a", DType::kF32, {3}}};
  write_sharded(folder / "new", headers, kZeros);
  EXPECT_TRUE(fs::exists(folder / "new/model-00001-of-000001.safetensors"));
  EXPECT_EQ(Checkpoint(folder / "new").at("a").size(), 3);
}

TEST(Checkpoint, ShardsHoldAtMostWhatTheyMay) {
  const TempFolder folder;
  const std::vector<TensorHeader> headers = {{"a", DType::kU8, {60}},
                                             {"b", DType::kU8, {40}},
                                             {"c", DType::kU8, {1}},
                                             {"huge", DType::kU8, {500}},
                                             {"d", DType::kU8, {9}}};
  write_sharded(folder.path(), headers, kZeros, 100);
  const auto index = nlohmann::json::parse(read_file(folder / "model.safetensors.index.json"));
  const auto shard = [&](const char* name) { return index["weight_map"][name].get<std::string>().substr(0, 11); };
  EXPECT_EQ(shard("a"), "model-00001");
  EXPECT_EQ(shard("b"), "model-00001");
  EXPECT_EQ(shard("c"), "model-00002");
  EXPECT_EQ(shard("huge"), "model-00003");
  EXPECT_EQ(shard("d"), "model-00004");
  const std::vector<TensorHeader> twice = {{"a", DType::kU8, {60}}, {"a", DType::kU8, {60}}};
  error_of(ErrorCode::kInvalidArgument, [&] { write_sharded(folder.path(), twice, kZeros, 10); });
}

TEST(Checkpoint, AFolderWithoutWeightsIsNotFound) {
  const TempFolder folder;
  EXPECT_ERROR(error_of(ErrorCode::kNotFound, [&] { Checkpoint c(folder.path()); }), "model.safetensors.index.json");
  EXPECT_ERROR(error_of(ErrorCode::kNotFound, [&] { Checkpoint c(folder / "none"); }), "no such folder");
}

TEST(Checkpoint, AMissingShardIsNamed) {
  const TempFolder folder;
  const std::vector<TensorHeader> headers = {{"a", DType::kU8, {60}}, {"b", DType::kU8, {60}}};
  write_sharded(folder.path(), headers, kZeros, 100);
  fs::remove(folder / "model-00002-of-000002.safetensors");
  EXPECT_ERROR(error_of(ErrorCode::kNotFound, [&] { Checkpoint c(folder.path()); }),
               "model-00002-of-000002.safetensors");
}

TEST(Checkpoint, ATensorTheIndexPromisesMustBeInItsShard) {
  const TempFolder folder;
  const std::vector<TensorHeader> headers = {{"a", DType::kU8, {60}}, {"b", DType::kU8, {60}}};
  write_sharded(folder.path(), headers, kZeros, 100);
  const auto rewrite = [&](const std::string& weight_map) {
    write_file_atomic(folder / "model.safetensors.index.json", "{\"weight_map\":" + weight_map + "}");
  };
  rewrite(R"({"a":"model-00001-of-000002.safetensors","c":"model-00002-of-000002.safetensors"})");
  EXPECT_ERROR(error_of(ErrorCode::kCorrupt, [&] { Checkpoint c(folder.path()); }), "no tensor \"c\"");
  rewrite(R"({"a":"model-00002-of-000002.safetensors"})");
  EXPECT_ERROR(error_of(ErrorCode::kCorrupt, [&] { Checkpoint c(folder.path()); }), "no tensor \"a\"");
  rewrite(R"({"b":"model-00002-of-000002.safetensors"})");
  const Checkpoint checkpoint(folder.path());
  EXPECT_EQ(checkpoint.names(), std::vector<std::string>{"b"});
  EXPECT_EQ(checkpoint.find("a"), nullptr);
  EXPECT_ERROR(error_of(ErrorCode::kNotFound, [&] { checkpoint.at("a"); }), "\"a\"");
}

TEST(Checkpoint, AnIndexCannotReachOutOfTheFolder) {
  const TempFolder outer;
  const std::vector<TensorHeader> headers = {{"a", DType::kU8, {60}}};
  fs::create_directories(outer / "model/sub");
  write_safetensors(outer / "secret.safetensors", headers, kZeros);
  write_safetensors(outer / "model/sub/inner.safetensors", headers, kZeros);
  write_safetensors(outer / "model/plain.safetensors", headers, kZeros);
  const auto open = [&](const std::string& name) {
    write_file_atomic(outer / "model/model.safetensors.index.json",
                      nlohmann::json({{"weight_map", {{"a", name}}}}).dump());
    Checkpoint checkpoint(outer / "model");
  };
  open("plain.safetensors");
  for (const std::string& name : {std::string("../secret.safetensors"), (outer / "secret.safetensors").string(),
                                  std::string("sub/inner.safetensors"), std::string("sub\\inner.safetensors"),
                                  std::string("plain.safetensors\0.safetensors", 30), std::string(".."),
                                  std::string(""), std::string(300, 'x') + ".safetensors"})
    EXPECT_ERROR(error_of(ErrorCode::kCorrupt, [&] { open(name); }), "weight_map names the file");
}

TEST(Checkpoint, AnIndexThatIsNoIndexIsCorrupt) {
  const TempFolder folder;
  for (const char* bad :
       {"", "[]", "{}", R"({"weight_map":{}})", R"({"weight_map":["a"]})", R"({"weight_map":{"a":1}})",
        R"({"weight_map":{"a":{"b":"c"}}})", R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})"}) {
    write_file_atomic(folder / "model.safetensors.index.json", bad);
    error_of(ErrorCode::kCorrupt, [&] { Checkpoint c(folder.path()); });
  }
}

TEST(Checkpoint, CheckNamesWhatDoesNotFitTheConfig) {
  const TempFolder folder;
  const ModelConfig config = preset_config("test-tiny");
  const std::vector<TensorHeader> good = tensor_headers(weight_schema(config), DType::kF32);
  const auto problems = [&](const auto& change) {
    std::vector<TensorHeader> headers = good;
    std::erase_if(headers, change);
    write_safetensors(folder / "model.safetensors", headers, kZeros);
    return error_of(ErrorCode::kCorrupt, [&] { Checkpoint(folder.path()).check(config); });
  };
  const std::string missing = problems([](TensorHeader& h) { return h.name == "image_newline"; });
  EXPECT_ERROR(missing, "image_newline is missing, expected [48]");
  EXPECT_EQ(missing.find("more"), std::string::npos);
  EXPECT_ERROR(problems([](TensorHeader& h) {
                 if (h.name == "language.lm_head.weight") h.shape = {48, 320};
                 return false;
               }),
               "language.lm_head.weight is [48, 320], expected [320, 48]");
  EXPECT_ERROR(problems([](TensorHeader& h) {
                 if (h.name == "view_seperator") h.dtype = DType::kI32;
                 return false;
               }),
               "view_seperator is I32, expected BF16, F16, F32 or F64");
  EXPECT_ERROR(problems([](TensorHeader& h) { return h.name.starts_with("vision.blocks.0."); }), "and 7 more");
}

TEST(Checkpoint, UnusedTensorsMayBeAbsentAndOthersPresent) {
  const TempFolder folder;
  const ModelConfig config = preset_config("test-small");
  std::vector<TensorHeader> headers = tensor_headers(weight_schema(config), DType::kF32);
  std::erase_if(headers, [](const TensorHeader& h) { return h.name.starts_with("vision.attn_pool."); });
  headers.push_back({"something.else", DType::kI64, {3}});
  write_safetensors(folder / "model.safetensors", headers, kZeros);
  Checkpoint(folder.path()).check(config);
}

TEST(Checkpoint, EveryGoldenModelHasExactlyTheTensorsOfItsSchema) {
  VL2_NEED_SHARED(shared);
  std::vector<fs::path> folders = {shared / "models/nano"};
  for (const auto& entry : fs::directory_iterator(shared / "golden/models")) folders.push_back(entry.path());
  EXPECT_GE(folders.size(), 9u);
  for (const fs::path& folder : folders) {
    SCOPED_TRACE(folder.filename().string());
    const ModelConfig config = load_model_config(folder / "config.json");
    const Checkpoint checkpoint(folder);
    checkpoint.check(config);
    std::map<std::string, Shape> expected;
    for (const WeightSpec& spec : weight_schema(config)) {
      const bool left_out = spec.role == WeightRole::kUnused && checkpoint.find(spec.name) == nullptr;
      if (!left_out) expected[spec.name] = spec.shape;
    }
    std::map<std::string, Shape> found;
    for (const std::string& name : checkpoint.names()) found[name] = checkpoint.at(name).shape;
    EXPECT_EQ(found, expected);
  }
}

}  // namespace
}  // namespace vl2
