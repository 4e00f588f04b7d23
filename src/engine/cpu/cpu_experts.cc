// Routed experts: tokens are sorted by expert, every expert multiplies its own rows once, and each token sums its
// experts in the order of their numbers - so a token's result does not depend on who else is in the batch.
#include <algorithm>

#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {
namespace {

// The rows of one expert: `count` of x, from `index` on where there is one.
struct Group {
  const GatedMlp* mlp;
  const GemmKernel* kernel;
  int64_t count;
  const int32_t* index;
  const std::byte* rows = nullptr;  // packed
  Tensor hidden = {}, up = {}, result = {};
};

// A piece of work: some panels of one expert.
struct Piece {
  int64_t group, panel, count;
};

std::vector<Piece> cut(const std::vector<Group>& groups, bool down, int64_t largest, int64_t threads) {
  // Few rows: pieces like those of any matrix. Many tokens: whole experts are pieces enough.
  const auto active = static_cast<int64_t>(groups.size());
  const int64_t wanted = std::clamp<int64_t>((8 * threads + active - 1) / std::max<int64_t>(active, 1), 1, 8);
  std::vector<Piece> pieces;
  for (int64_t g = 0; g < active; ++g) {
    const Group& group = groups[static_cast<size_t>(g)];
    const PackedMatrix& w = packed((down ? group.mlp->down : group.mlp->gate).weight);
    const int64_t panels = num_panels(w.n);
    const int64_t share =
        largest <= group.kernel->row_group ? stream_share(w, 1) : round_up((panels + wanted - 1) / wanted, 4);
    for (int64_t p = 0; p < panels; p += share) pieces.push_back({g, p, std::min(share, panels - p)});
  }
  return pieces;
}

void pack_groups(const CpuContext& context, std::vector<Group>& groups, bool hidden, Tensor x, int64_t slots) {
  // A token that is alone is packed once for all.
  const bool alone = !hidden && x.rows == 1;
  for (Group& g : groups) {
    if (alone && &g != groups.data() && g.kernel == groups[0].kernel) {
      g.rows = groups[0].rows;
    } else {
      g.rows = context.workspace.bytes(
          static_cast<size_t>(g.kernel->packed_a_bytes(g.count, hidden ? g.hidden.cols : x.cols)));
    }
  }
  const auto pack = [&](int64_t i, int) {
    const Group& g = groups[static_cast<size_t>(i)];
    if (i > 0 && g.rows == groups[0].rows) return;
    const Tensor& source = hidden ? g.hidden : x;
    g.kernel->pack_a(source.data, source.row_stride, hidden ? nullptr : g.index, g.count, source.cols,
                     const_cast<std::byte*>(g.rows));
  };
  const auto count = static_cast<int64_t>(groups.size());
  if (slots * x.cols < 32768) {
    for (int64_t i = 0; i < count; ++i) pack(i, 0);
  } else {
    context.pool.parallel_for(count, pack);
  }
}

}  // namespace

void routed_experts(const CpuContext& context, Tensor out, Tensor x, const Routing& routing,
                    const ExpertWeights& experts, const GatedMlp* shared) {
  if (x.rows == 0) return;
  const int64_t slots = routing.num_tokens * routing.top_k, threads = context.pool.num_threads();
  Workspace::Scope scope(context.workspace);

  // Counting sort of (token, choice) by expert; slot_of remembers where each choice went.
  std::vector<int64_t> first(static_cast<size_t>(routing.num_experts) + 1, 0);
  for (int32_t e : routing.expert) ++first[static_cast<size_t>(e) + 1];
  for (size_t e = 1; e < first.size(); ++e) first[e] += first[e - 1];
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

  // The results of all experts lie slot by slot, those of the shared ones after them.
  const int64_t hidden = x.cols;
  Tensor result = context.workspace.tensor(slots, hidden);
  std::vector<Group> groups;
  int64_t largest = 0;
  const auto add_group = [&](const GatedMlp& mlp, int64_t count, const int32_t* index) {
    const Format format = packed(mlp.gate.weight).format;
    VL2_CHECK(packed(mlp.up.weight).format == format && packed(mlp.down.weight).format == format,
              "[routed_experts] an expert's three matrices are stored in different forms");
    groups.push_back({&mlp, &context.gemm(format), count, index});
    largest = std::max(largest, count);
  };
  for (int64_t e = 0; e < routing.num_experts; ++e) {
    const int64_t begin = first[static_cast<size_t>(e)], count = first[static_cast<size_t>(e) + 1] - begin;
    if (count == 0) continue;
    add_group(experts.experts[static_cast<size_t>(e)], count, &token_of[static_cast<size_t>(begin)]);
    groups.back().result = result.row_range(begin, count);
  }
  if (shared != nullptr) {
    add_group(*shared, x.rows, nullptr);
    groups.back().result = context.workspace.tensor(x.rows, hidden);
  }
  for (Group& g : groups) g.hidden = context.workspace.tensor(g.count, g.mlp->gate.weight.out);
  const std::vector<float*> scratch = thread_scratch(context, gemm_scratch_floats(largest));

  {
    Workspace::Scope inside(context.workspace);
    for (Group& g : groups) g.up = context.workspace.tensor(g.count, g.hidden.cols);
    pack_groups(context, groups, false, x, slots);
    const std::vector<Piece> pieces = cut(groups, false, largest, threads);
    const auto gate_of = [&](size_t i) {
      return i < pieces.size()
                 ? packed(groups[static_cast<size_t>(pieces[i].group)].mlp->gate.weight).panel(pieces[i].panel)
                 : nullptr;
    };
    context.pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i, int thread) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      const Group& g = groups[static_cast<size_t>(piece.group)];
      const PackedMatrix &gate = packed(g.mlp->gate.weight), &up = packed(g.mlp->up.weight);
      const int64_t column = piece.panel * kPanel, columns = std::min(piece.count * kPanel, gate.n - column);
      GemmTask task{g.rows,
                    g.count,
                    gate.panel(piece.panel),
                    piece.count,
                    gate.k,
                    g.hidden.data + column,
                    g.hidden.row_stride,
                    columns,
                    nullptr,
                    Epilogue::kStore,
                    scratch[static_cast<size_t>(thread)],
                    up.panel(piece.panel)};
      g.kernel->run(task);
      task.b = task.next;
      task.c = g.up.data + column;
      task.next = gate_of(static_cast<size_t>(i) + 1);
      g.kernel->run(task);
      for (int64_t r = 0; r < g.count; ++r)
        context.kernels.silu_mul_row(g.hidden.row(r) + column, g.up.row(r) + column, columns);
    });
  }

  pack_groups(context, groups, true, x, slots);
  const std::vector<Piece> pieces = cut(groups, true, largest, threads);
  context.pool.parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i, int thread) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const Group& g = groups[static_cast<size_t>(piece.group)];
    const PackedMatrix& down = packed(g.mlp->down.weight);
    const int64_t column = piece.panel * kPanel;
    const bool last = i + 1 == static_cast<int64_t>(pieces.size());
    const Piece& then = pieces[static_cast<size_t>(last ? i : i + 1)];
    g.kernel->run({g.rows, g.count, down.panel(piece.panel), piece.count, down.k, g.result.data + column,
                   g.result.row_stride, std::min(piece.count * kPanel, hidden - column), nullptr, Epilogue::kStore,
                   scratch[static_cast<size_t>(thread)],
                   packed(groups[static_cast<size_t>(then.group)].mlp->down.weight).panel(then.panel)});
  });

  context.for_ranges(x.rows, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      std::fill_n(out.row(t), hidden, 0.0f);
      for (int64_t i = t * routing.top_k; i < (t + 1) * routing.top_k; ++i)
        context.kernels.add_scaled_row(out.row(t), result.row(slot_of[static_cast<size_t>(i)]),
                                       routing.weight[static_cast<size_t>(i)], hidden);
      if (shared != nullptr) context.kernels.add_row(out.row(t), groups.back().result.row(t), hidden);
    }
  });
}

}  // namespace vl2::cpu
