// Activations between the host and the memory of the backend.
#include <algorithm>
#include <cstring>

#include "engine/ops/ops.h"

namespace vl2 {
namespace {

// Calls piece(host offset, row pointer, rows, floats of a row, floats from row to row) for as few pieces as the strides
// allow.
template <typename Piece>
void each_piece(Tensor x, const Piece& piece) {
  if (x.size() == 0) return;
  if (x.heads == 1 || x.head_stride == x.cols) {
    piece(int64_t{0}, x.data, x.rows, x.heads * x.cols, x.row_stride);
  } else {
    for (int64_t r = 0; r < x.rows; ++r) piece(r * x.heads * x.cols, x.row(r), x.heads, x.cols, x.head_stride);
  }
}

size_t bytes(int64_t floats) { return static_cast<size_t>(floats) * sizeof(float); }

void copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows) {
  for (size_t r = 0; r < rows; ++r)
    std::memcpy(static_cast<std::byte*>(to) + r * to_pitch, static_cast<const std::byte*>(from) + r * from_pitch,
                width);
}

}  // namespace

void Ops::upload(Tensor to, std::span<const float> from) {
  VL2_CHECK(static_cast<int64_t>(from.size()) == to.size(), "[upload] {} values for {}", from.size(), to.size());
  each_piece(to, [&](int64_t at, float* rows, int64_t count, int64_t width, int64_t stride) {
    const float* host = from.data() + at;
    if (on_host())
      copy_rows(rows, bytes(stride), host, bytes(width), bytes(width), static_cast<size_t>(count));
    else
      do_upload(rows, bytes(stride), host, bytes(width), bytes(width), static_cast<size_t>(count));
  });
}

void Ops::download(std::span<float> to, Tensor from) {
  VL2_CHECK(static_cast<int64_t>(to.size()) == from.size(), "[download] {} values of {}", to.size(), from.size());
  each_piece(from, [&](int64_t at, const float* rows, int64_t count, int64_t width, int64_t stride) {
    float* host = to.data() + at;
    if (on_host())
      copy_rows(host, bytes(width), rows, bytes(stride), bytes(width), static_cast<size_t>(count));
    else
      do_download(host, bytes(width), rows, bytes(stride), bytes(width), static_cast<size_t>(count));
  });
}

HostTensor Ops::to_host(Tensor values) {
  if (on_host() || values.data == nullptr) return {values, {}};
  HostTensor host;
  host.memory.resize(static_cast<size_t>(values.size()));
  download(host.memory, values);
  host.values = {host.memory.data(), values.rows, values.heads, values.cols, values.heads * values.cols, values.cols};
  return host;
}

HostRouting Ops::to_host(const Routing& routing) {
  HostRouting host;
  host.values = routing;
  if (on_host()) return host;
  const auto copy = [&](auto& memory, auto& span) {
    memory.resize(span.size());
    if (!span.empty())
      do_download(memory.data(), span.size_bytes(), span.data(), span.size_bytes(), span.size_bytes(), 1);
    span = memory;
  };
  const bool biased = routing.choice.data() != routing.scores.data();
  copy(host.expert, host.values.expert);
  copy(host.weight, host.values.weight);
  copy(host.scores, host.values.scores);
  if (biased)
    copy(host.choice, host.values.choice);
  else
    host.values.choice = host.values.scores;
  return host;
}

void Ops::do_upload(void*, size_t, const void*, size_t, size_t, size_t) {
  fail(ErrorCode::kInternal, "{} has memory of its own and no way to it", name());
}

void Ops::do_download(void*, size_t, const void*, size_t, size_t, size_t) {
  fail(ErrorCode::kInternal, "{} has memory of its own and no way from it", name());
}

}  // namespace vl2
