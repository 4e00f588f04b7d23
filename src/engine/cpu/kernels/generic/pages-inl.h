// What a stream of weights fetches ahead of its loads. Included inside an ISA namespace.
//
// A virtual machine's memory may be mapped 4 KiB at a time by its host, huge pages or not, and then every page of a
// stream waits for a walk through two page tables, which takes longer than a line from memory. Fetching one line of a
// page well before the others starts that walk early.

// Into the second level: the first has no room for what is not needed soon.
inline void fetch_page(const void* p) { __builtin_prefetch(p, 0, 2); }

// A run of memory whose lines are fetched kAhead bytes before they are loaded, and of every page one line kPagesAhead
// before; then the first lines of what comes next, so that no run begins with a wait. kAhead 0: nothing is fetched.
template <int64_t kAhead>
struct Fetch {
  struct Place {
    const std::byte* at;
    const std::byte* end;
    const std::byte* next;

    void follow() {
      if (at < end || next == nullptr) return;
      at = next + (at - end);
      next = nullptr;
    }
  };
  Place line, page;
  int64_t passed = 0;  // since the last page

  Fetch(const void* begin, int64_t bytes, const void* next)
      : line{static_cast<const std::byte*>(begin), static_cast<const std::byte*>(begin) + bytes,
             static_cast<const std::byte*>(next)},
        page(line) {
    if constexpr (kAhead == 0) return;
    for (; page.at < line.at + kPagesAhead; page.at += kPageBytes) fetch_page(page.at);
    lines(kAhead);
  }
  void lines(int64_t bytes) {
    if constexpr (kAhead == 0) return;
    for (int64_t i = 0; i < bytes; i += 64, line.at += 64) __builtin_prefetch(line.at);
  }
  // Before the next `bytes`, at most a page of them.
  void follow(int64_t bytes) {
    if constexpr (kAhead == 0) return;
    line.follow();
    passed += bytes;
    if (passed < kPageBytes) return;
    passed -= kPageBytes;
    page.follow();
    fetch_page(page.at);
    page.at += kPageBytes;
  }
};
