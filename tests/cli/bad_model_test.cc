// Model folders that are broken: every command that opens one says what is wrong with it.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/checkpoint/safetensors.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

struct Damage {
  std::string name;
  std::function<void(const std::filesystem::path& folder)> harm;
  std::string word;  // of the message
};
void PrintTo(const Damage& damage, std::ostream* out) { *out << damage.name; }

void change_config(const std::filesystem::path& folder, const std::function<void(json&)>& change) {
  json config = json::parse(read_file(folder / "config.json"));
  change(config);
  write_file_atomic(folder / "config.json", config.dump());
}

void change_weights(const std::filesystem::path& folder, const std::function<void(std::string&)>& change) {
  std::string bytes = read_file(folder / "model.safetensors");
  change(bytes);
  write_file_atomic(folder / "model.safetensors", bytes);
}

// Rewrites the header of model.safetensors; the data keeps its place behind it.
void change_header(const std::filesystem::path& folder, const std::function<void(json&)>& change) {
  change_weights(folder, [&change](std::string& bytes) {
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    json header = json::parse(bytes.substr(8, size));
    change(header);
    const std::string text = header.dump();
    const uint64_t new_size = text.size();
    bytes = std::string(reinterpret_cast<const char*>(&new_size), sizeof new_size) + text + bytes.substr(8 + size);
  });
}

// A tensor that every checkpoint of this kind has.
constexpr const char* kTensor = "language.model.norm.weight";

const std::vector<Damage>& damages() {
  static const std::vector<Damage> kDamages = {
      {"TruncatedWeights",
       [](const auto& folder) { change_weights(folder, [](std::string& bytes) { bytes.resize(bytes.size() / 2); }); },
       "model.safetensors"},
      {"EmptyWeights", [](const auto& folder) { write_file_atomic(folder / "model.safetensors", ""); },
       "model.safetensors"},
      {"OversizedHeader",
       [](const auto& folder) { change_weights(folder, [](std::string& bytes) { bytes.replace(0, 8, 8, '\x7f'); }); },
       "header"},
      {"OverlappingTensors",
       [](const auto& folder) {
         change_header(folder, [](json& header) {
           const auto begin = header[kTensor]["data_offsets"][0].get<int64_t>();
           const auto end = header[kTensor]["data_offsets"][1].get<int64_t>();
           header[kTensor]["data_offsets"] = {begin - 2, end - 2};
         });
       },
       "model.safetensors"},
      {"AnotherElementType",
       [](const auto& folder) { change_header(folder, [](json& header) { header[kTensor]["dtype"] = "I16"; }); },
       kTensor},
      {"UnknownElementType",
       [](const auto& folder) { change_header(folder, [](json& header) { header[kTensor]["dtype"] = "Q3"; }); }, "Q3"},
      {"MissingTensor",
       [](const auto& folder) {
         change_header(folder, [](json& header) {
           header["another.name"] = header[kTensor];
           header.erase(kTensor);
         });
       },
       kTensor},
      {"MissingWeights", [](const auto& folder) { std::filesystem::remove(folder / "model.safetensors"); },
       "model.safetensors"},
      {"MissingShard",
       [](const auto& folder) {
         std::filesystem::remove(folder / "model.safetensors");
         const json index = {{"metadata", json::object()},
                             {"weight_map", {{kTensor, "model-00002-of-000002.safetensors"}}}};
         write_file_atomic(folder / "model.safetensors.index.json", index.dump());
       },
       "model-00002-of-000002.safetensors"},
      {"ConfigIsNoJson", [](const auto& folder) { write_file_atomic(folder / "config.json", "{\"model_type\": "); },
       "config.json"},
      {"UnknownArchitecture",
       [](const auto& folder) { change_config(folder, [](json& config) { config["model_type"] = "llava"; }); },
       "llava"},
      {"ImpossibleSize",
       [](const auto& folder) {
         change_config(folder, [](json& config) { config["language_config"]["hidden_size"] = -192; });
       },
       "hidden_size"},
      {"AnotherSize",
       [](const auto& folder) {
         change_config(folder, [](json& config) { config["language_config"]["intermediate_size"] = 640; });
       },
       "language.model.layers.0.mlp"},
  };
  return kDamages;
}

class BadModel : public testing::TestWithParam<Damage> {
 protected:
  BadModel() {
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(source_dir()) + "/tests/goldens/nano/model"))
      std::filesystem::copy(entry.path(), temp_ / entry.path().filename().string());
    GetParam().harm(temp_.path());
  }
  std::string folder() const { return temp_.path().string(); }

  TempFolder temp_;
};

TEST_P(BadModel, InfoSaysWhatIsWrong) { expect_failure(run_vl2({"info", folder()}), "info", {GetParam().word}); }

TEST_P(BadModel, AskSaysWhatIsWrongAndLeavesNothing) {
  const TempFolder out;
  expect_failure(run_vl2({"ask", "-m", folder(), "-i", std::string(source_dir()) + "/examples/5-wide.png", "--boxes",
                          (out / "boxes.png").string(), "q"}),
                 "ask", {GetParam().word});
  EXPECT_EQ(names_in(out.path()), std::vector<std::string>{});
}

TEST_P(BadModel, TraceSaysWhatIsWrongAndLeavesNothing) {
  const TempFolder out;
  const std::vector<int64_t> numbers = {0, 3, 4, 0, 0, -1};
  const std::vector<uint8_t> masks = {0, 0, 0, 1, 1, 1};
  const auto* ids = reinterpret_cast<const std::byte*>(numbers.data());
  const auto* mask = reinterpret_cast<const std::byte*>(masks.data());
  const std::vector<NamedTensor> tensors = {{"input_ids", {ids, DType::kI64, {1, 3}}},
                                            {"images_spatial_crop", {ids + 24, DType::kI64, {1, 1, 2}}},
                                            {"tile_ids", {ids + 40, DType::kI64, {1, 1}}},
                                            {"images_seq_mask", {mask, DType::kBool, {1, 3}}},
                                            {"attention_mask", {mask + 3, DType::kBool, {1, 3}}}};
  write_safetensors(out / "case.safetensors", tensors);
  expect_failure(run_vl2({"trace", "-m", folder(), "--case", (out / "case.safetensors").string(), "-o",
                          (out / "out.safetensors").string()}),
                 "trace", {GetParam().word});
  EXPECT_EQ(names_in(out.path()), std::vector<std::string>{"case.safetensors"});
}

TEST(BadTokenizer, AskAndPromptSayWhatIsWrong) {
  const TempFolder folder;
  const std::filesystem::path nano = std::string(source_dir()) + "/tests/goldens/nano/model";
  for (const auto& entry : std::filesystem::directory_iterator(nano))
    std::filesystem::copy(entry.path(), folder / entry.path().filename().string());
  for (const std::string text :
       {"", "{", "{}", "[1]", R"({"model": {"type": "BPE", "vocab": {"a": 9999999999}, "merges": []}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})"}) {
    SCOPED_TRACE(text);
    write_file_atomic(folder / "tokenizer.json", text);
    expect_failure(run_vl2({"ask", "-m", folder.path().string(), "q"}), "ask", {"tokenizer.json"});
    expect_failure(run_vl2({"prompt", "-m", folder.path().string(), "-"}), "prompt", {"tokenizer.json"});
  }
  std::filesystem::remove(folder / "tokenizer.json");
  expect_failure(run_vl2({"ask", "-m", folder.path().string(), "q"}), "ask", {"tokenizer.json"});
}

INSTANTIATE_TEST_SUITE_P(Folders, BadModel, testing::ValuesIn(damages()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace vl2::cli_test
