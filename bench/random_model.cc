// vl2_random_model PRESET FORMAT OUT [FILES_FROM]: a model folder of a release's size with random weights, to measure
// start and memory on. FILES_FROM: a model whose tokenizer is copied; models/nano if it is absent.
#include "engine/model/random_model.h"

#include <iostream>

#include "core/base/error.h"

int main(int argc, char** argv) {
  if (argc < 4 || argc > 5) {
    std::cerr << "usage: vl2_random_model tiny|small|base bf16|q8|q4|mixed OUT [FILES_FROM]\n";
    return 2;
  }
  try {
    const auto format = vl2::parse_model_format(argv[2]);
    if (!format) vl2::fail(vl2::ErrorCode::kInvalidArgument, "\"{}\": expected bf16, q8, q4 or mixed", argv[2]);
    vl2::RandomModelOptions options;
    options.format = *format;
    options.files_from = argc == 5 ? argv[4] : "models/nano";
    int64_t shown = 0;
    options.progress = [&shown](int64_t done, int64_t total) {
      if (done >> 30 == shown && done != total) return;
      shown = done >> 30;
      std::cerr << "\r" << shown << " of " << (total >> 30) << " GiB" << (done == total ? "\n" : "") << std::flush;
    };
    vl2::write_random_model(argv[3], vl2::preset_config(argv[1]), options);
  } catch (const std::exception& error) {
    std::cerr << "vl2_random_model: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
