#include "engine/cuda/cuda_experts.h"

#include <cstring>

#include "engine/cuda/kernels/route.h"
#include "engine/cuda/kernels/rows.h"

namespace vl2::cuda {
namespace {

constexpr int64_t kFewTokens = 16;  // as many as are multiplied by streaming the gate

}  // namespace

void ExpertCalls::route(const CudaContext& context, Routing& routing, Tensor x, const Weight& gate, const Weight& bias,
                        const RouterParams& p) {
  if (x.rows == 0) return;
  VL2_CHECK(routing.num_experts <= 4096 && p.top_k <= 32 && p.num_groups <= 32,
            "the CUDA router takes 4096 experts, 32 of a token and 32 groups, not {}, {} and {}", routing.num_experts,
            p.top_k, p.num_groups);
  Workspace::Scope scope(context.workspace);
  Tensor logits = context.workspace.tensor(x.rows, routing.num_experts);
  const MatrixView& matrix_of_gate = matrix(gate);
  const bool few = x.rows <= kFewTokens && matrix_of_gate.format == MatrixFormat::kF32;
  if (!few) linear(context, logits, x, gate, {}, false);
  Route r;
  r.expert = routing.expert.data();
  r.weight = routing.weight.data();
  r.scores = routing.scores.data();
  r.choice = routing.choice.data();
  r.logits = logits.data;
  r.logits_stride = logits.row_stride;
  r.rows = x.rows;
  r.experts = routing.num_experts;
  r.top_k = p.top_k;
  r.num_groups = p.num_groups;
  r.topk_groups = p.topk_groups;
  r.bias = p.topk_method == TopkMethod::kNoauxTc ? vector(bias) : nullptr;
  r.sigmoid = p.scoring_func == ScoringFunc::kSigmoid;
  r.limit_groups = p.topk_method != TopkMethod::kGreedy;
  r.two_best = p.topk_method == TopkMethod::kNoauxTc;
  r.normalise = p.top_k > 1 && p.norm_topk_prob;
  r.scaling = p.routed_scaling_factor;
  if (few)
    cuda::route(context.stream(), {r, x.data, x.row_stride, matrix_of_gate, logits.data, counters(kFewTokens)});
  else
    choose_experts(context.stream(), r);
}

const ExpertPointers* ExpertCalls::table_of(const ExpertWeights& experts) {
  std::vector<ExpertPointers> pointers;
  pointers.reserve(experts.experts.size());
  for (const GatedMlp& e : experts.experts)
    pointers.push_back({matrix(e.gate.weight).data, matrix(e.up.weight).data, matrix(e.down.weight).data});
  Layer& layer = layers_[pointers.front().gate];
  const size_t bytes = pointers.size() * sizeof(ExpertPointers);
  if (layer.pointers.size() == pointers.size() && std::memcmp(layer.pointers.data(), pointers.data(), bytes) == 0)
    return layer.table.as<ExpertPointers>();
  layer.table = DeviceBuffer(device_, bytes);
  device_.upload(layer.table.data(), pointers.data(), bytes);
  layer.pointers = std::move(pointers);
  return layer.table.as<ExpertPointers>();
}

int32_t* ExpertCalls::counters(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(int32_t);
  if (bytes > counters_.bytes()) {
    counters_ = DeviceBuffer(device_, bytes);
    device_.clear(counters_.data(), bytes);
  }
  return counters_.as<int32_t>();
}

void ExpertCalls::run(const CudaContext& context, Tensor out, Tensor x, const Routing& routing,
                      const ExpertWeights& experts, const GatedMlp* shared, bool add) {
  if (x.rows == 0) return;
  Workspace::Scope scope(context.workspace);
  const GatedMlp& first = experts.experts.front();
  const MatrixView &gate = matrix(first.gate.weight), &down = matrix(first.down.weight);
  for (const GatedMlp& e : experts.experts)
    VL2_CHECK(!e.gate.bias && !e.up.bias && !e.down.bias && matrix(e.gate.weight).format == gate.format &&
                  matrix(e.up.weight).format == gate.format && matrix(e.down.weight).format == gate.format,
              "routed experts without biases and of one format are what the kernels take");
  Experts e;
  e.out = out.data;
  e.x = x.data;
  e.out_stride = out.row_stride;
  e.x_stride = x.row_stride;
  e.rows = x.rows;
  e.expert = routing.expert.data();
  e.weight = routing.weight.data();
  e.top_k = routing.top_k;
  e.routed = {table_of(experts), routing.num_experts, gate.format, gate.cols, gate.rows, gate.stride, down.stride};
  e.exact = !context.bf16_compute;
  const bool inside = shared != nullptr && matrix(shared->gate.weight).format == gate.format &&
                      matrix(shared->up.weight).format == gate.format &&
                      matrix(shared->down.weight).format == gate.format && !shared->gate.bias && !shared->up.bias &&
                      !shared->down.bias;
  if (inside) {
    e.shared_gate = matrix(shared->gate.weight);
    e.shared_up = matrix(shared->up.weight);
    e.shared_down = matrix(shared->down.weight);
  }
  std::byte* memory = context.workspace.bytes(experts_scratch_bytes(e) + 256);
  e.scratch = memory + (256 - reinterpret_cast<uintptr_t>(memory) % 256) % 256;
  e.counters = counters(experts_counters(gate.cols));
  e.add = add;
  cuda::experts(context.stream(), e);
  if (shared == nullptr || inside) return;
  Tensor y = context.workspace.tensor(x.rows, out.cols);
  swiglu(context, y, x, *shared);
  cuda::add(context.stream(), rows_view(out), rows_view(y));
}

}  // namespace vl2::cuda
