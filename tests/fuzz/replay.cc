// Runs a target over files, once each: the committed corpus, without libFuzzer.
//
//   vl2_fuzz_NAME FOLDER|FILE...
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/fuzz.h"

namespace {

void run(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (!stream.good() && !stream.eof()) throw std::runtime_error("cannot read " + file.string());
  std::fputs((file.string() + "\n").c_str(), stderr);  // the last one is the one that failed
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  int count = 0;
  for (int i = 1; i < argc; ++i) {
    std::vector<std::filesystem::path> files;
    if (std::filesystem::is_directory(argv[i]))
      for (const auto& entry : std::filesystem::directory_iterator(argv[i])) files.push_back(entry.path());
    else
      files.emplace_back(argv[i]);
    std::sort(files.begin(), files.end());
    for (const auto& file : files) run(file), ++count;
  }
  std::fputs(fmt::format("{} inputs\n", count).c_str(), stderr);
  return count > 0 ? 0 : 1;
}
