// The last step of a product: bias, activation, store. Included inside an ISA namespace after simd.h and math-inl.h.

inline void finish(const GemmTask& task, float* c, int64_t column, Vec value) {
  const int64_t n = task.columns - column;
  if (n <= 0) return;
  if (task.bias != nullptr) value = add(value, n >= kPanel ? load(task.bias + column) : load_n(task.bias + column, n));
  if (task.epilogue == Epilogue::kGeluTanh) value = gelu_tanh(value);
  if (n >= kPanel) {
    store(c + column, task.epilogue == Epilogue::kAdd ? add(load(c + column), value) : value);
  } else {
    store_n(c + column, task.epilogue == Epilogue::kAdd ? add(load_n(c + column, n), value) : value, n);
  }
}

// Asks for the places where rows x panels of a block will go, so that they are there when the sums are done.
template <int M, int P>
inline void expect(const GemmTask& task, int64_t first_row, int64_t first_panel) {
  for (int m = 0; m < M; ++m)
    for (int p = 0; p < P; ++p)
      __builtin_prefetch(task.c + (first_row + m) * task.c_stride + (first_panel + p) * kPanel, 1);
}
