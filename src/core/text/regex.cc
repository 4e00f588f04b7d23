#include "core/text/regex.h"

#include "core/base/error.h"
#include "core/text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

namespace vl2 {
namespace {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* p) const {
    Free(p);
  }
};

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

constexpr uint64_t kBaseSteps = 16'000'000;
constexpr uint64_t kStepsPerByte = 64;
constexpr uint32_t kMaxHeapKiB = 512 * 1024;  // of the interpreter's backtracking, per match
constexpr size_t kMaxJitStack = size_t{64} << 20;
constexpr size_t kMaxPattern = 64 * 1024;

}  // namespace

struct RegexScratch::Impl {
  std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>> match_data;
  std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>> context;
  std::unique_ptr<pcre2_jit_stack, Freer<pcre2_jit_stack_free>> jit_stack;  // only once 32 KiB did not do
};

RegexScratch::RegexScratch() : impl_(std::make_unique<Impl>()) {
  impl_->match_data.reset(pcre2_match_data_create(1, nullptr));
  impl_->context.reset(pcre2_match_context_create(nullptr));
  if (!impl_->match_data || !impl_->context) fail(ErrorCode::kOutOfMemory, "no memory for a regex match");
  pcre2_set_heap_limit(impl_->context.get(), kMaxHeapKiB);
}

RegexScratch::~RegexScratch() = default;

struct Regex::Impl {
  std::string where;
  std::unique_ptr<pcre2_code, Freer<pcre2_code_free>> code;

  // False: no match at or after `start`.
  bool find(std::string_view subject, size_t start, uint32_t options, RegexScratch::Impl& scratch, Span& match) const;
};

Regex::Regex(const std::string& pattern, const std::string& where, bool use_jit) : impl_(std::make_unique<Impl>()) {
  impl_->where = where;
  if (pattern.size() > kMaxPattern)
    fail(ErrorCode::kUnsupported, "{}: the pattern has {} bytes, at most {} are accepted", where, pattern.size(),
         kMaxPattern);
  const std::string translated = translate_pattern(pattern, where);
  std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>> context(
      pcre2_compile_context_create(nullptr));
  if (!context) fail(ErrorCode::kOutOfMemory, "no memory to compile a regex");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 64);
  int error = 0;
  PCRE2_SIZE offset = 0;
  impl_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C, &error,
                                  &offset, context.get()));
  if (!impl_->code)
    fail(ErrorCode::kCorrupt, "{}: not a usable regular expression: {} (near byte {} of {})", where,
         pcre2_message(error), offset, pattern.size());
  // Where there is no JIT (hardened kernels, other machines) the interpreter gives the same matches, slower.
  if (use_jit) pcre2_jit_compile(impl_->code.get(), PCRE2_JIT_COMPLETE);
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

bool Regex::Impl::find(std::string_view subject, size_t start, uint32_t options, RegexScratch::Impl& scratch,
                       Span& match) const {
  const auto* data = reinterpret_cast<PCRE2_SPTR>(subject.data());
  options |= PCRE2_NO_UTF_CHECK;  // checked once, by whoever made the subject: each call would read all of it again
  const auto run = [&](uint32_t extra) {
    return pcre2_match(code.get(), data, subject.size(), start, options | extra, scratch.match_data.get(),
                       scratch.context.get());
  };
  int result = run(0);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT && !scratch.jit_stack) {
    scratch.jit_stack.reset(pcre2_jit_stack_create(32 * 1024, kMaxJitStack, nullptr));
    pcre2_jit_stack_assign(scratch.context.get(), nullptr, scratch.jit_stack.get());
    result = run(0);
  }
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result == PCRE2_ERROR_MATCHLIMIT || result == PCRE2_ERROR_DEPTHLIMIT || result == PCRE2_ERROR_HEAPLIMIT)
    fail(ErrorCode::kInvalidArgument,
         "{}: the pattern backtracks too long over this text ({} bytes): {}; split the text or simplify the pattern",
         where, subject.size(), pcre2_message(result));
  if (result < 0) fail(ErrorCode::kInternal, "{}: regex match failed: {}", where, pcre2_message(result));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(scratch.match_data.get());
  match = {ends[0], ends[1]};
  return true;
}

void Regex::find_all(std::string_view subject, RegexScratch& scratch, std::vector<Span>& matches) const {
  matches.clear();
  RegexScratch::Impl& state = *scratch.impl_;
  const uint64_t steps = std::min<uint64_t>(kBaseSteps + kStepsPerByte * subject.size(), UINT32_MAX);
  pcre2_set_match_limit(state.context.get(), static_cast<uint32_t>(steps));
  size_t start = 0;
  while (start <= subject.size()) {
    // At the end of the last match only a match that takes something counts.
    const bool touching = !matches.empty() && matches.back().end == start;
    Span match;
    if (!impl_->find(subject, start, touching ? PCRE2_NOTEMPTY_ATSTART : 0, state, match)) break;
    matches.push_back(match);
    start = match.end;
  }
}

}  // namespace vl2
