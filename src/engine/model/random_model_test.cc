#include "engine/model/random_model.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/checkpoint/checkpoint.h"
#include "engine/model/weight_source.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

RandomModelOptions options_of(const TempFolder& temp, ModelFormat format) {
  fs::create_directories(temp / "files");
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "processor_config.json"})
    write_file_atomic(temp.path() / "files" / name, "{}");
  RandomModelOptions options;
  options.format = format;
  options.files_from = temp / "files";
  options.max_shard_bytes = 100 << 10;
  return options;
}

TEST(RandomModel, AFolderHoldsWhatItsFormatAsksForAndWhatTheSourceGives) {
  for (const char* preset : {"test-tiny", "test-small", "test-base"}) {
    for (const ModelFormat format : {ModelFormat::kBf16, ModelFormat::kQ8, ModelFormat::kQ4, ModelFormat::kMixed}) {
      SCOPED_TRACE(fmt::format("{} {}", preset, model_format_name(format)));
      const TempFolder temp;
      const ModelConfig config = preset_config(preset);
      int64_t last = 0, whole = 0;
      RandomModelOptions options = options_of(temp, format);
      options.progress = [&](int64_t done, int64_t total) { last = done, whole = total; };
      write_random_model(temp / "out", config, options);
      const ModelConfig written = load_model_config(temp / "out/config.json");
      EXPECT_EQ(written.quantization, format == ModelFormat::kBf16 ? std::nullopt : std::optional(format));
      const Checkpoint checkpoint(temp / "out");
      checkpoint.check(written);
      EXPECT_EQ(last, checkpoint.num_bytes());
      EXPECT_EQ(whole, last);
      RandomSource source(1, config, format);
      const std::string head = "language.lm_head.weight";
      const int64_t rows = config.language.vocab_size, cols = config.language.hidden_size;
      const auto expected = source.panels(head, rows, cols),
                 found = CheckpointSource(checkpoint).panels(head, rows, cols);
      ASSERT_EQ(expected.has_value(), found.has_value());
      if (found) {
        const auto bytes = static_cast<size_t>(found->matrix.num_bytes());
        EXPECT_EQ(std::memcmp(expected->matrix.data, found->matrix.data, bytes), 0);
      }
      EXPECT_EQ(read_file(temp / "out/tokenizer.json"), "{}");
    }
  }
}

TEST(RandomModel, ATokenizerThatIsNotThereIsNamed) {
  const TempFolder temp;
  RandomModelOptions options = options_of(temp, ModelFormat::kQ4);
  options.files_from = temp / "nowhere";
  try {
    write_random_model(temp / "out", preset_config("test-tiny"), options);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("nowhere/tokenizer.json"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace vl2
