// nano answers every question as the official implementation does.
#include <algorithm>

#include "engine/cpu/cpu_isa.h"
#include "runtime/nano_goldens.h"

namespace vl2 {
namespace {

// An ISA of the CPU backend, "reference", or "cuda" where there is a GPU.
class NanoAnswers : public testing::TestWithParam<std::string> {
 protected:
  static std::unique_ptr<Engine> open(const EngineOptions& options) {
    const bool cpu = GetParam() != "reference" && GetParam() != "cuda";
    EngineOptions all = options;
    all.backend = cpu ? "cpu" : GetParam();
    if (cpu) ::setenv("VL2_CPU_ISA", GetParam().c_str(), 1);
    all.compute.compute = Compute::kF32;  // as the goldens were made, on AMX too
    auto engine = Engine::open(nano_folder(), all);
    ::unsetenv("VL2_CPU_ISA");
    return engine;
  }
};

class NanoAnswersOnCpu : public NanoAnswers {};

TEST_P(NanoAnswersOnCpu, AreTheOfficialOnesOneByOne) {
  const auto engine = open({});
  for (const NanoGolden& golden : nano_goldens())
    expect_golden_answer(golden, engine->submit(nano_request(golden, *engine))->answer());
}

TEST_P(NanoAnswers, AreTheOfficialOnesAllAtOnce) {
  EngineOptions options;
  options.max_cached_tokens = 8192;
  options.prefill_chunk = 100;
  const auto engine = open(options);
  const std::vector<NanoGolden> goldens = nano_goldens();
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const NanoGolden& golden : goldens) streams.push_back(engine->submit(nano_request(golden, *engine)));
  for (size_t i = 0; i < goldens.size(); ++i) expect_golden_answer(goldens[i], streams[i]->answer());
}

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Isa isa : available_isas()) names.emplace_back(isa_name(isa));
  return names;
}
std::string test_name(const testing::TestParamInfo<std::string>& test) { return test.param; }

std::vector<std::string> gpus() {
  const std::vector<std::string_view> names = backend_names();
  return std::find(names.begin(), names.end(), "cuda") == names.end() ? std::vector<std::string>()
                                                                      : std::vector<std::string>{"cuda"};
}

INSTANTIATE_TEST_SUITE_P(Gpu, NanoAnswers, testing::ValuesIn(gpus()), test_name);
INSTANTIATE_TEST_SUITE_P(Gpu, NanoAnswersOnCpu, testing::ValuesIn(gpus()), test_name);
INSTANTIATE_TEST_SUITE_P(Reference, NanoAnswers, testing::Values("reference"), test_name);
INSTANTIATE_TEST_SUITE_P(Cpu, NanoAnswers, testing::ValuesIn(isas()), test_name);
INSTANTIATE_TEST_SUITE_P(Cpu, NanoAnswersOnCpu, testing::ValuesIn(isas()), test_name);

}  // namespace
}  // namespace vl2
