#include "engine/cuda/device/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "core/base/error.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#if defined(__x86_64__)
// Saves the registers a function must keep on the stack it leaves, and takes those of the other one.
extern "C" void vl2_switch_stack(void** from, void* to);
asm(R"(
.pushsection .text
.globl vl2_switch_stack
.hidden vl2_switch_stack
.type vl2_switch_stack, @function
vl2_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size vl2_switch_stack, . - vl2_switch_stack
.popsection
)");
#endif

namespace vl2::cuda::software {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kStackBytes = 512 << 10;
#else
constexpr size_t kStackBytes = 128 << 10;
#endif
constexpr size_t kColours = 64, kColourBytes = 64;

}  // namespace

struct Fiber::Context {
  std::byte* memory = nullptr;  // a page that may not be touched, then the stack
  size_t guard = 0;
  std::byte* stack() const { return memory + guard; }
#if defined(__x86_64__)
  void *mine = nullptr, *caller = nullptr;  // stack pointers
#else
  ucontext_t mine, caller;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void *my_fake = nullptr, *caller_fake = nullptr;
  const void* caller_stack = nullptr;
  size_t caller_bytes = 0;
  bool entered = false;
#endif
#if defined(__SANITIZE_THREAD__)
  void *my_tsan = nullptr, *caller_tsan = nullptr;
#endif
  void (*entry)() = nullptr;
  static Context* starting;

  void arrived() {  // on the fiber's stack, after a switch to it
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(my_fake, &caller_stack, &caller_bytes);
#endif
  }
  static void first() {
    starting->arrived();
    starting->entry();
  }
};

Fiber::Context* Fiber::Context::starting = nullptr;

Fiber::Fiber() : context_(std::make_unique<Context>()) {
  Context& c = *context_;
  c.guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory =
      mmap(nullptr, c.guard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail(ErrorCode::kOutOfMemory, "[software device] no memory for the stack of a thread");
  c.memory = static_cast<std::byte*>(memory);
  mprotect(c.memory, c.guard, PROT_NONE);
}

Fiber::~Fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(context_->stack(), kStackBytes);
#endif
#if defined(__SANITIZE_THREAD__)
  if (context_->my_tsan != nullptr) __tsan_destroy_fiber(context_->my_tsan);
#endif
  munmap(context_->memory, context_->guard + kStackBytes);
}

void Fiber::begin(void (*entry)(), size_t colour) {
  Context& c = *context_;
  c.entry = entry;
#if defined(__SANITIZE_ADDRESS__)
  if (c.entered) __asan_unpoison_memory_region(c.stack(), kStackBytes);  // left in the middle by an error
  c.my_fake = nullptr;
#endif
#if defined(__SANITIZE_THREAD__)
  if (c.my_tsan == nullptr) c.my_tsan = __tsan_create_fiber(0);
#endif
  const size_t bytes = kStackBytes - colour % kColours * kColourBytes;
#if defined(__x86_64__)
  // As if first() had been called: an empty return address, then what vl2_switch_stack takes off.
  auto** top = reinterpret_cast<void**>(c.stack() + bytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Context::first);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  c.mine = top;
#else
  getcontext(&c.mine);
  c.mine.uc_stack.ss_sp = c.stack();
  c.mine.uc_stack.ss_size = bytes;
  c.mine.uc_link = nullptr;
  makecontext(&c.mine, &Context::first, 0);
#endif
}

void Fiber::enter() {
  Context& c = *context_;
  Context::starting = &c;
#if defined(__SANITIZE_ADDRESS__)
  c.entered = true;
  __sanitizer_start_switch_fiber(&c.caller_fake, c.stack(), kStackBytes);
#endif
#if defined(__SANITIZE_THREAD__)
  c.caller_tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(c.my_tsan, 0);
#endif
#if defined(__x86_64__)
  vl2_switch_stack(&c.caller, c.mine);
#else
  swapcontext(&c.caller, &c.mine);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(c.caller_fake, nullptr, nullptr);
#endif
}

void Fiber::leave(bool ended) {
  Context& c = *context_;
#if defined(__SANITIZE_ADDRESS__)
  c.entered = !ended;
  __sanitizer_start_switch_fiber(ended ? nullptr : &c.my_fake, c.caller_stack, c.caller_bytes);
#else
  (void)ended;
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(c.caller_tsan, 0);
#endif
#if defined(__x86_64__)
  vl2_switch_stack(&c.mine, c.caller);
#else
  swapcontext(&c.mine, &c.caller);
#endif
  c.arrived();
}

}  // namespace vl2::cuda::software
