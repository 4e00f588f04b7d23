// What people say to the model, before it is tokens. Plain data.
#pragma once

#include <cstdint>
#include <string>

namespace vl2 {

// role: "user", "assistant" or "system" (first only), or the template's own "<|User|>", "<|Assistant|>",
// "deepseekapi-sys". content: "<image>" stands for the next picture of the whole conversation; not in an assistant's.
struct Message {
  std::string role;
  std::string content;
};

struct ImageSize {
  int64_t width = 0;
  int64_t height = 0;
};

}  // namespace vl2
