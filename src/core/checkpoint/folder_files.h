// What stands in a model folder beside the weights, for whoever writes a model anew.
#pragma once

#include <cstdint>
#include <filesystem>

namespace vl2 {

// Tokenizer, processor config, model card: every ordinary file of `in` (or what a link of it names) that is neither
// config.json, nor weights of any format, nor the state of a training run. `keep`: files that `out` has already stay as
// they are, which is otherwise an error. kIo.
void copy_other_files(const std::filesystem::path& in, const std::filesystem::path& out, bool keep = false);

// kInvalidArgument: one folder is the other, or inside it.
void check_apart(const std::filesystem::path& in, const std::filesystem::path& out);

// kIo: the file system of `folder` has less than `bytes` free. Silent where that cannot be found out.
void check_room(const std::filesystem::path& folder, int64_t bytes);

}  // namespace vl2
