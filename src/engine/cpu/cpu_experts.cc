// Routed experts: tokens are sorted by expert, every expert multiplies its own rows once, and each token sums its
// experts in the order of their numbers - so a token's result does not depend on who else is in the batch.
#include <algorithm>
#include <atomic>

#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {
namespace {

// The rows of one expert: `count` of x, from `index` on where there is one.
struct Group {
  const GatedMlp* mlp;
  const GemmKernel* kernel;
  int64_t count;
  const int32_t* index;
  Tensor result = {};
  const std::byte* x_rows = nullptr;  // packed
  Tensor hidden = {}, up = {};
  std::byte* hidden_rows = nullptr;  // packed
};

// A piece of work: some panels of one matrix of an expert, or of gate and up both.
enum class Part { kGate, kUp, kGateAndUp, kDown };
struct Piece {
  int64_t group;
  Part part;
  int64_t panel, count;
};

const PackedMatrix& matrix(const Group& group, Part part) {
  const GatedMlp& mlp = *group.mlp;
  return packed((part == Part::kDown ? mlp.down : part == Part::kUp ? mlp.up : mlp.gate).weight);
}

// Few rows: matrices are streams, one after the other. Many: gate and up side by side, whole experts are pieces enough.
std::vector<Piece> cut(const std::vector<Group>& groups, bool down, bool few, int64_t threads) {
  const auto active = static_cast<int64_t>(groups.size());
  const int64_t wanted = std::clamp<int64_t>((8 * threads + active - 1) / std::max<int64_t>(active, 1), 1, 8);
  std::vector<Piece> pieces;
  pieces.reserve(static_cast<size_t>(16 * active));
  for (int64_t g = 0; g < active; ++g) {
    const auto add = [&](Part part) {
      const PackedMatrix& w = matrix(groups[static_cast<size_t>(g)], part);
      const int64_t panels = num_panels(w.n);
      const int64_t share = few ? stream_share(w, 1) : round_up((panels + wanted - 1) / wanted, 4);
      for (int64_t p = 0; p < panels; p += share) pieces.push_back({g, part, p, std::min(share, panels - p)});
    };
    if (down) {
      add(Part::kDown);
    } else if (few) {
      add(Part::kGate);
      add(Part::kUp);
    } else {
      add(Part::kGateAndUp);
    }
  }
  return pieces;
}

// Packs every group's rows of x. A token that is one expert's only row is packed once for all such experts.
void pack_tokens(const CpuContext& context, std::vector<Group>& groups, Tensor x) {
  struct Pack {
    const GemmKernel* kernel;
    int64_t count;
    const int32_t* index;
    std::byte* out;
  };
  std::vector<Pack> packs;
  std::vector<const std::byte*> alone(static_cast<size_t>(x.rows), nullptr);
  int64_t rows = 0;
  for (Group& g : groups) {
    const auto token = static_cast<size_t>(g.index != nullptr ? *g.index : 0);
    const bool shares = g.count == 1 && g.kernel == groups.back().kernel;  // a routed expert's
    if (!shares || alone[token] == nullptr) {
      std::byte* out = context.workspace.bytes(static_cast<size_t>(g.kernel->packed_a_bytes(g.count, x.cols)));
      packs.push_back({g.kernel, g.count, g.index, out});
      rows += g.count;
      g.x_rows = out;
      if (shares) alone[token] = out;
    } else {
      g.x_rows = alone[token];
    }
  }
  const auto pack = [&](int64_t i, int) {
    const Pack& p = packs[static_cast<size_t>(i)];
    p.kernel->pack_a(x.data, x.row_stride, p.index, p.count, x.cols, p.out);
  };
  const auto count = static_cast<int64_t>(packs.size());
  if (rows * x.cols < 16384) {
    for (int64_t i = 0; i < count; ++i) pack(i, 0);
  } else {
    context.pool.parallel_for(count, pack);
  }
}

// What the thread that runs task i of `pieces` multiplies by after it, most likely: the next piece, or after the last
// of its own the first of its pieces of the region that follows.
const std::byte* after(const CpuContext& context, const std::vector<Group>& groups, const std::vector<Piece>& pieces,
                       int64_t i, const std::vector<Piece>& following) {
  const auto first = [&](const Piece& piece) {
    const Group& group = groups[static_cast<size_t>(piece.group)];
    return matrix(group, piece.part).panel(piece.panel);
  };
  const ThreadPool& pool = context.pool;
  const auto num = static_cast<int64_t>(pieces.size()), then = static_cast<int64_t>(following.size());
  for (int thread = 0; thread < pool.num_threads(); ++thread)
    if (i + 1 == pool.first_task(num, thread + 1)) {
      const int64_t next = pool.first_task(then, thread);
      return next < then ? first(following[static_cast<size_t>(next)]) : nullptr;
    }
  return first(pieces[static_cast<size_t>(i) + 1]);
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

  // The results of all experts lie slot by slot.
  const int64_t hidden = x.cols;
  Tensor result = context.workspace.tensor(slots, hidden);
  std::vector<Group> groups;
  groups.reserve(static_cast<size_t>(std::min(slots, routing.num_experts)) + 1);
  int64_t largest = 0;
  const auto add_group = [&](const GatedMlp& mlp, int64_t count, const int32_t* index) {
    const Format format = packed(mlp.gate.weight).format;
    VL2_CHECK(packed(mlp.up.weight).format == format && packed(mlp.down.weight).format == format,
              "[routed_experts] an expert's three matrices are stored in different forms");
    groups.push_back({&mlp, &context.gemm(format), count, index, {}});
    largest = std::max(largest, count);
  };
  // The widest first: what is left to do when a group is done shall not be last.
  Tensor shared_result{};
  if (shared != nullptr) {
    add_group(*shared, x.rows, nullptr);
    groups.back().result = shared_result = context.workspace.tensor(x.rows, hidden);
  }
  for (int64_t e = 0; e < routing.num_experts; ++e) {
    const int64_t begin = first[static_cast<size_t>(e)], count = first[static_cast<size_t>(e) + 1] - begin;
    if (count == 0) continue;
    add_group(experts.experts[static_cast<size_t>(e)], count, &token_of[static_cast<size_t>(begin)]);
    groups.back().result = result.row_range(begin, count);
  }
  for (Group& g : groups) {
    const int64_t size = g.mlp->gate.weight.out;
    g.hidden = context.workspace.tensor(g.count, size);
    g.up = context.workspace.tensor(g.count, size);
    g.hidden_rows = context.workspace.bytes(static_cast<size_t>(g.kernel->packed_a_bytes(g.count, size)));
  }
  const std::vector<float*> scratch = thread_scratch(context, gemm_scratch_floats(largest));
  pack_tokens(context, groups, x);

  const bool few = largest <= groups.front().kernel->row_group;
  const std::vector<Piece> inner = cut(groups, false, few, threads), outer = cut(groups, true, few, threads);
  const auto multiply_piece = [&](const Piece& piece, Part part, const std::byte* next, int thread) {
    const Group& g = groups[static_cast<size_t>(piece.group)];
    const PackedMatrix& w = matrix(g, part);
    const Tensor& to = part == Part::kDown ? g.result : part == Part::kUp ? g.up : g.hidden;
    const int64_t column = piece.panel * kPanel;
    g.kernel->run({part == Part::kDown ? g.hidden_rows : g.x_rows, g.count, w.panel(piece.panel), piece.count, w.k,
                   to.data + column, to.row_stride, std::min(piece.count * kPanel, w.n - column), nullptr,
                   Epilogue::kStore, scratch[static_cast<size_t>(thread)], next});
  };
  const auto activate = [&](const Group& g, int64_t column, int64_t columns) {
    for (int64_t r = 0; r < g.count; ++r)
      context.kernels.silu_mul_row(g.hidden.row(r) + column, g.up.row(r) + column, columns);
  };
  // Whoever finishes a group's last piece packs its rows for the way down.
  std::vector<std::atomic<int64_t>> left(groups.size());
  for (const Piece& piece : inner) ++left[static_cast<size_t>(piece.group)];
  context.pool.parallel_for(static_cast<int64_t>(inner.size()), [&](int64_t i, int thread) {
    const Piece& piece = inner[static_cast<size_t>(i)];
    const Group& g = groups[static_cast<size_t>(piece.group)];
    const std::byte* next = after(context, groups, inner, i, outer);
    if (piece.part == Part::kGateAndUp) {
      multiply_piece(piece, Part::kGate, matrix(g, Part::kUp).panel(piece.panel), thread);
      multiply_piece(piece, Part::kUp, next, thread);
      const int64_t column = piece.panel * kPanel;
      activate(g, column, std::min(piece.count * kPanel, g.hidden.cols - column));
    } else {
      multiply_piece(piece, piece.part, next, thread);
    }
    if (--left[static_cast<size_t>(piece.group)] > 0) return;
    if (few) activate(g, 0, g.hidden.cols);
    g.kernel->pack_a(g.hidden.data, g.hidden.row_stride, nullptr, g.count, g.hidden.cols, g.hidden_rows);
  });
  context.pool.parallel_for(static_cast<int64_t>(outer.size()), [&](int64_t i, int thread) {
    multiply_piece(outer[static_cast<size_t>(i)], Part::kDown, after(context, groups, outer, i, {}), thread);
  });

  context.for_ranges(x.rows, 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      std::fill_n(out.row(t), hidden, 0.0f);
      for (int64_t i = t * routing.top_k; i < (t + 1) * routing.top_k; ++i)
        context.kernels.add_scaled_row(out.row(t), result.row(slot_of[static_cast<size_t>(i)]),
                                       routing.weight[static_cast<size_t>(i)], hidden);
      if (shared != nullptr) context.kernels.add_row(out.row(t), shared_result.row(t), hidden);
    }
  });
}

}  // namespace vl2::cpu
