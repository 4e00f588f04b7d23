// What a mask costs with the releases' vocabulary: prints it (in thread CPU time), and checks that no mask is empty.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "engine/constrain/constraint_test.h"

namespace vl2 {
namespace {

// Of this thread's own work: what a busy machine does in between is not the mask's.
double cpu_microseconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

void print(const char* what, std::vector<double> times) {
  if (times.empty()) return;
  std::sort(times.begin(), times.end());
  std::printf("%-34s %6zu masks: median %8.1f us, 99 %% %8.1f us, worst %8.1f us\n", what, times.size(),
              times[times.size() / 2], times[times.size() * 99 / 100], times.back());
}

TEST(MaskTime, OfTheLargeVocabulary) {
  VL2_NEED_SHARED(shared);
  const auto begin = cpu_microseconds();
  const auto vocabulary = make_vocabulary(Tokenizer::load(shared / "tokenizers/tokenizer_vl2_129k.json"));
  std::printf("tokenizer: %.0f ms\n", (cpu_microseconds() - begin) / 1000);
  const std::vector<std::pair<const char*, ConstraintSpec>> specs = {
      {"JSON schema, nested",
       ConstraintSpec::json_schema(
           R"({"type":"object","properties":{"items":{"type":"array","items":{"type":"object","properties":{
          "name":{"type":"string"},"price":{"type":"number"},"count":{"type":"integer","minimum":0,"maximum":1000},
          "box":{"type":"array","items":{"type":"integer","minimum":0,"maximum":999},"minItems":4,"maxItems":4},
          "kind":{"enum":["a","b","c"]}},"required":["name","price","count","box","kind"],"additionalProperties":false}},
          "total":{"type":"number"}},"required":["items","total"],"additionalProperties":false})")},
      {"JSON schema, strings with lengths",
       ConstraintSpec::json_schema(R"({"type":"array","items":{"type":"string","minLength":3,"maxLength":200}})")},
      {"any JSON object", ConstraintSpec::json_object()},
      {"regular expression", ConstraintSpec::regex("([A-Za-z]+ ){1,40}[0-9]{1,5}\\.")},
      {"grounding", ConstraintSpec::grounding()},
  };
  for (const auto& [name, spec] : specs) {
    const auto compile_begin = cpu_microseconds();
    const auto constraint = vocabulary->compiler.compile(spec);
    std::printf("%s: compiled in %.1f ms\n", name, (cpu_microseconds() - compile_begin) / 1000);
    std::vector<double> first, again, accept;
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      const RandomAnswer answer = random_answer(*vocabulary, vocabulary->compiler.compile(spec), seed, 80);
      ConstraintCompiler cold(vocabulary->tokenizer, vocabulary->eos);
      const auto fresh = cold.compile(spec);
      for (std::vector<double>* times : {&first, &again}) {
        ConstraintState state(fresh);
        for (const int32_t id : answer.ids) {
          const auto mask_begin = cpu_microseconds();
          const int64_t allowed = state.allowed().allowed;
          times->push_back((cpu_microseconds() - mask_begin));
          ASSERT_GT(allowed, 0);
          const auto accept_begin = cpu_microseconds();
          ASSERT_TRUE(state.accept(id));
          accept.push_back((cpu_microseconds() - accept_begin));
        }
      }
    }
    print("  first time", first);
    print("  known", again);
    print("  accept()", accept);
  }
}

}  // namespace
}  // namespace vl2
