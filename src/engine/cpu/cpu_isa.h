// Which instruction sets this processor has, and which kernels were asked for. Decided once, when a backend is made.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vl2 {

// Each level includes the ones before it.
enum class Isa { kScalar, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };

std::string_view isa_name(Isa isa);  // "scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx"
std::optional<Isa> parse_isa(std::string_view name);

// The best level this processor and kernel support. Asks Linux for permission to use AMX tiles where they exist.
Isa detect_isa();
std::vector<Isa> available_isas();  // weakest first

// VL2_CPU_ISA if it is set, else the best. kInvalidArgument for an unknown name, kUnsupported for one this machine
// lacks.
Isa choose_isa();
// The same for a level asked for by code: kUnsupported if this machine lacks it.
Isa require_isa(Isa isa);

std::string processor_name();  // as the operating system calls it

// Lines for `vl2 info --cpu`: processor, what was detected, what runs.
std::string cpu_description();

}  // namespace vl2
