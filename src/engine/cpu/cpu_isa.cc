#include "engine/cpu/cpu_isa.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "core/base/error.h"
#include "core/base/thread_pool.h"

namespace vl2 {
namespace {

constexpr std::array<std::string_view, 7> kNames = {"scalar",     "avx2",       "avxvnni", "avx512",
                                                    "avx512vnni", "avx512bf16", "amx"};

#if defined(__x86_64__)

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(unsigned word, int position) { return (word >> position & 1u) != 0; }

// Register state the operating system saves for us.
uint64_t enabled_state() {
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

// Tiles are 8 KiB of state a thread: Linux gives them to a process that asks.
bool allow_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::vector<Isa> detect() {
  std::vector<Isa> found = {Isa::kScalar};
  const Registers basic = cpuid(1, 0), extended = cpuid(7, 0), extended1 = cpuid(7, 1);
  if (!bit(basic.ecx, 27)) return found;  // OSXSAVE
  const uint64_t state = enabled_state();
  const bool avx2 = bit(basic.ecx, 12) && bit(basic.ecx, 29) && bit(extended.ebx, 5) && (state & 0x6) == 0x6;
  if (!avx2) return found;  // FMA, F16C, AVX2
  found.push_back(Isa::kAvx2);
  if (bit(extended1.eax, 4)) found.push_back(Isa::kAvxVnni);
  const bool avx512 = bit(extended.ebx, 16) && bit(extended.ebx, 17) && bit(extended.ebx, 30) &&
                      bit(extended.ebx, 31) && (state & 0xe6) == 0xe6;
  if (!avx512) return found;  // F, DQ, BW, VL
  found.push_back(Isa::kAvx512);
  if (!bit(extended.ecx, 11)) return found;
  found.push_back(Isa::kAvx512Vnni);
  if (!bit(extended1.eax, 5)) return found;
  found.push_back(Isa::kAvx512Bf16);
  const bool amx =
      bit(extended.edx, 24) && bit(extended.edx, 25) && bit(extended.edx, 22) && (state & 0x60000) == 0x60000;
  if (amx && allow_tiles()) found.push_back(Isa::kAmx);
  return found;
}

#else

std::vector<Isa> detect() { return {Isa::kScalar}; }

#endif

bool available(Isa isa) {
  const std::vector<Isa>& isas = available_isas();
  return std::find(isas.begin(), isas.end(), isa) != isas.end();
}

std::string available_names(std::string_view between) {
  std::vector<std::string_view> names;
  for (const Isa isa : available_isas()) names.push_back(isa_name(isa));
  return fmt::format("{}", fmt::join(names, between));
}

}  // namespace

std::string_view isa_name(Isa isa) { return kNames[static_cast<size_t>(isa)]; }

std::optional<Isa> parse_isa(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<Isa>(i);
  return std::nullopt;
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = detect();
  return isas;
}

Isa detect_isa() { return available_isas().back(); }

Isa choose_isa() {
  const char* forced = std::getenv("VL2_CPU_ISA");
  if (forced == nullptr || *forced == '\0') return detect_isa();
  const std::optional<Isa> isa = parse_isa(forced);
  if (!isa)
    fail(ErrorCode::kInvalidArgument,
         "VL2_CPU_ISA={}: unknown; use scalar, avx2, avxvnni, avx512, avx512vnni, avx512bf16 or amx", forced);
  if (!available(*isa))
    fail(ErrorCode::kUnsupported, "VL2_CPU_ISA={}: this processor has only {}; unset it or choose one of them", forced,
         available_names(", "));
  return *isa;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  return "unknown processor";
}

Isa require_isa(Isa isa) {
  if (!available(isa))
    fail(ErrorCode::kUnsupported, "kernels for {} were asked for, but this processor has only {}", isa_name(isa),
         available_names(", "));
  return isa;
}

std::string cpu_description() {
  const Isa isa = choose_isa();
  return fmt::format("processor  {}\nthreads    {}\ndetected   {}\nkernels    {} ({})\n", processor_name(),
                     ThreadPool::default_num_threads(), available_names(" "), isa_name(isa),
                     isa == Isa::kAmx ? "bf16 checkpoints compute in bf16 on AMX tiles" : "computes in float32");
}

}  // namespace vl2
