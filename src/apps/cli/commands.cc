#include "apps/cli/commands.h"

#include <array>

namespace vl2::cli {
namespace {

constexpr std::array kCommands = {
    Command{"ask", "Answer a question about pictures", declare_ask},
    Command{"chat", "Talk about pictures, turn by turn", declare_chat},
    Command{"serve", "The HTTP API: OpenAI's, for text and pictures", declare_serve},
    Command{"info", "What is inside a model, and the memory it needs; --cpu: what this machine runs", declare_info},
    Command{"tokenize", "Text to token ids and back, a line at a time", declare_tokenize},
    Command{"prompt", "The token ids and masks a conversation becomes", declare_prompt},
    Command{"tiles", "How a picture is cut into tiles, and what it costs", declare_tiles},
    Command{"trace", "Every stage's activations as one safetensors file", declare_trace},
    Command{"drift", "Where two models, or two ways to compute one, part", declare_drift},
    Command{"quantize", "A smaller model: 8 or 4 bits a weight", declare_quantize},
    Command{"lora", "A LoRA adapter merged into its model", declare_lora},
    Command{"train", "Train a model, by the separate program vl2-train", declare_train},
    Command{"data", "Training data: synth draws a set of pictures with questions", declare_data},
    Command{"eval", "How often a model is right, skill by skill", declare_eval},
    Command{"bench", "Speed, next to what this machine could do at most", declare_bench},
    Command{"bench-serve", "Speed of a server under load", declare_bench_serve},
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

}  // namespace vl2::cli
