// Which instruction sets this processor has, and which kernels were asked for. Decided once, when a backend is made.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vl2 {

// Weakest first. A processor with one has those before it too, but that of those with AVX-512 only some have AVX-VNNI.
enum class Isa { kScalar, kAvx2, kAvxVnni, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };

std::string_view isa_name(Isa isa);  // "scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx"
std::optional<Isa> parse_isa(std::string_view name);

// What this processor and kernel support, weakest first. Asks Linux for permission to use AMX tiles where they exist.
const std::vector<Isa>& available_isas();
Isa detect_isa();  // the best of them

// VL2_CPU_ISA if it is set, else the best. kInvalidArgument for an unknown name, kUnsupported for one this machine
// lacks.
Isa choose_isa();
// The same for a level asked for by code: kUnsupported if this machine lacks it.
Isa require_isa(Isa isa);

std::string processor_name();  // as the operating system calls it

// Lines for `vl2 info --cpu`: processor, what was detected, what runs.
std::string cpu_description();

}  // namespace vl2
