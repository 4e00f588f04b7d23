// Routed experts: tokens are sorted by expert, every expert multiplies its own rows once, and each token sums its
// experts in the order of their numbers - so a token's result does not depend on who else is in the batch.
#include <algorithm>

#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {
namespace {

// The rows of one expert: slots [begin, begin + count) of the sorted list.
struct Group {
  int64_t expert;
  int64_t begin;
  int64_t count;
};

// A piece of work: some panels of one expert.
struct Piece {
  int64_t group;
  int64_t panel;
  int64_t count;
};

std::vector<Piece> cut(const std::vector<Group>& groups, const PackedMatrix& w, int64_t largest,
                       const GemmKernel& kernel, int64_t threads) {
  // Few rows: pieces like those of any matrix. Many tokens: whole experts are pieces enough.
  const auto active = static_cast<int64_t>(groups.size()), panels = num_panels(w.n);
  const int64_t wanted = std::clamp<int64_t>((8 * threads + active - 1) / std::max<int64_t>(active, 1), 1, 8);
  const int64_t share = largest <= kernel.row_group ? stream_share(w, 1) : round_up((panels + wanted - 1) / wanted, 4);
  std::vector<Piece> pieces;
  for (int64_t g = 0; g < active; ++g)
    for (int64_t p = 0; p < panels; p += share) pieces.push_back({g, p, std::min(share, panels - p)});
  return pieces;
}

}  // namespace

void routed_experts(const CpuContext& context, Tensor out, Tensor x, const Routing& routing,
                    const ExpertWeights& experts) {
  if (x.rows == 0) return;
  const int64_t slots = routing.num_tokens * routing.top_k, threads = context.pool.num_threads();
  Workspace::Scope scope(context.workspace);

  // Counting sort of (token, choice) by expert; slot_of remembers where each choice went.
  std::vector<int64_t> first(static_cast<size_t>(routing.num_experts) + 1, 0);
  for (int32_t e : routing.expert) ++first[static_cast<size_t>(e) + 1];
  for (size_t e = 1; e < first.size(); ++e) first[e] += first[e - 1];
  std::vector<Group> groups;
  int64_t largest = 0;
  for (int64_t e = 0; e < routing.num_experts; ++e) {
    const int64_t count = first[static_cast<size_t>(e) + 1] - first[static_cast<size_t>(e)];
    if (count > 0) groups.push_back({e, first[static_cast<size_t>(e)], count});
    largest = std::max(largest, count);
  }
  const auto token_of = context.workspace.array<int32_t>(slots);
  const auto slot_of = context.workspace.array<int32_t>(slots);
  {
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    for (int64_t i = 0; i < slots; ++i) {
      const int64_t slot = next[static_cast<size_t>(routing.expert[static_cast<size_t>(i)])]++;
      token_of[static_cast<size_t>(slot)] = static_cast<int32_t>(i / routing.top_k);
      slot_of[static_cast<size_t>(i)] = static_cast<int32_t>(slot);
    }
  }

  const GatedMlp& shape = experts.experts.front();
  const PackedMatrix& any_gate = packed(shape.gate.weight);
  VL2_CHECK(packed(shape.up.weight).format == any_gate.format && packed(shape.down.weight).format == any_gate.format,
            "[routed_experts] an expert's three matrices are stored in different forms");
  const GemmKernel& kernel = context.gemm(any_gate.format);
  const int64_t inner = any_gate.n, hidden = x.cols;
  const std::vector<float*> scratch = thread_scratch(context, gemm_scratch_floats(largest));

  // Every group's rows, gathered and packed. A group starts where its packed rows start, each with room for padding.
  const auto pack_groups = [&](Tensor source, const int32_t* index) {
    std::vector<std::byte*> packed_groups;
    for (const Group& g : groups)
      packed_groups.push_back(
          context.workspace.bytes(static_cast<size_t>(kernel.packed_a_bytes(g.count, source.cols))));
    const auto pack = [&](int64_t g, int) {
      const Group& group = groups[static_cast<size_t>(g)];
      kernel.pack_a(index != nullptr ? source.data : source.row(group.begin), source.row_stride,
                    index != nullptr ? index + group.begin : nullptr, group.count, source.cols,
                    packed_groups[static_cast<size_t>(g)]);
    };
    if (slots * source.cols < 32768) {
      for (size_t g = 0; g < groups.size(); ++g) pack(static_cast<int64_t>(g), 0);
    } else {
      context.pool.parallel_for(static_cast<int64_t>(groups.size()), pack);
    }
    return packed_groups;
  };

  Tensor activated = context.workspace.tensor(slots, inner);
  {
    Workspace::Scope inside(context.workspace);
    Tensor up_out = context.workspace.tensor(slots, inner);
    const std::vector<std::byte*> rows = pack_groups(x, token_of.data());
    const auto first_panel = [&](const Piece& piece) {
      const int64_t expert = groups[static_cast<size_t>(piece.group)].expert;
      return packed(experts.experts[static_cast<size_t>(expert)].gate.weight).panel(piece.panel);
    };
    const std::vector<Piece> pieces = cut(groups, any_gate, largest, kernel, threads);
    context.pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i, int thread) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      const Group& g = groups[static_cast<size_t>(piece.group)];
      const GatedMlp& mlp = experts.experts[static_cast<size_t>(g.expert)];
      const int64_t column = piece.panel * kPanel, columns = std::min(piece.count * kPanel, inner - column);
      GemmTask task{rows[static_cast<size_t>(piece.group)],
                    g.count,
                    packed(mlp.gate.weight).panel(piece.panel),
                    piece.count,
                    hidden,
                    activated.row(g.begin) + column,
                    activated.row_stride,
                    columns,
                    nullptr,
                    Epilogue::kStore,
                    scratch[static_cast<size_t>(thread)]};
      task.next = packed(mlp.up.weight).panel(piece.panel);
      kernel.run(task);
      task.b = task.next;
      task.next =
          i + 1 < static_cast<int64_t>(pieces.size()) ? first_panel(pieces[static_cast<size_t>(i + 1)]) : nullptr;
      task.c = up_out.row(g.begin) + column;
      kernel.run(task);
      for (int64_t r = g.begin; r < g.begin + g.count; ++r)
        context.kernels.silu_mul_row(activated.row(r) + column, up_out.row(r) + column, columns);
    });
  }

  Tensor result = context.workspace.tensor(slots, hidden);
  const std::vector<std::byte*> rows = pack_groups(activated, nullptr);
  const std::vector<Piece> pieces = cut(groups, packed(shape.down.weight), largest, kernel, threads);
  context.pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i, int thread) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const Group& g = groups[static_cast<size_t>(piece.group)];
    const PackedMatrix& down = packed(experts.experts[static_cast<size_t>(g.expert)].down.weight);
    const int64_t column = piece.panel * kPanel;
    kernel.run({rows[static_cast<size_t>(piece.group)], g.count, down.panel(piece.panel), piece.count, inner,
                result.row(g.begin) + column, result.row_stride, std::min(piece.count * kPanel, hidden - column),
                nullptr, Epilogue::kStore, scratch[static_cast<size_t>(thread)]});
  });

  context.for_ranges(x.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      std::fill_n(out.row(t), hidden, 0.0f);
      for (int64_t i = t * routing.top_k; i < (t + 1) * routing.top_k; ++i)
        context.kernels.add_scaled_row(out.row(t), result.row(slot_of[static_cast<size_t>(i)]),
                                       routing.weight[static_cast<size_t>(i)], hidden);
    }
  });
}

}  // namespace vl2::cpu
