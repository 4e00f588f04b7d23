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
