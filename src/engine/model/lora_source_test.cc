#include <gtest/gtest.h>

#include <cstring>

#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/checkpoint/lora_merge.h"
#include "core/checkpoint/lora_test.h"
#include "engine/model/random_model.h"
#include "engine/model/weight_source.h"

namespace vl2 {
namespace {

TEST(LoraSource, GivesTheBytesThatMergingWrites) {
  for (const char* preset : {"test-tiny", "test-small", "test-base"}) {
    SCOPED_TRACE(preset);
    const TempFolder temp;
    const ModelConfig config = preset_config(preset);
    std::filesystem::create_directories(temp / "files");
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "processor_config.json"})
      write_file_atomic(temp.path() / "files" / name, "{}");
    RandomModelOptions options;
    options.files_from = temp / "files";
    write_random_model(temp / "model", config, options);
    RandomAdapter(config, {"all-linear"}, 3).write(temp / "adapter");
    merge_lora_model(temp / "model", temp / "adapter", temp / "merged", {});

    const Checkpoint model(temp / "model"), merged(temp / "merged");
    const LoraAdapter adapter(temp / "adapter");
    LoraSource source(model, adapter, 2);
    CheckpointSource expected(merged);
    int64_t changed = 0;
    for (const WeightSpec& spec : weight_schema(config)) {
      if (spec.role == WeightRole::kUnused) continue;
      const TensorView a = source.get(spec.name, spec.shape), b = expected.get(spec.name, spec.shape);
      ASSERT_EQ(a.dtype, b.dtype);
      EXPECT_EQ(std::memcmp(a.data, b.data, a.num_bytes()), 0) << spec.name;
      // A merged tensor is a buffer that the next one overwrites: nobody may keep it by its owner.
      EXPECT_EQ(source.owner() == nullptr, adapter.find(spec.name) != nullptr) << spec.name;
      changed += std::memcmp(a.data, model.at(spec.name).data, a.num_bytes()) != 0 ? 1 : 0;
      source.done(a);
    }
    EXPECT_EQ(changed, static_cast<int64_t>(adapter.modules().size()));
  }
}

}  // namespace
}  // namespace vl2
