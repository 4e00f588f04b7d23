// B: samples, L: queries, M: keys, H: heads, K: width of q and k of a head, V: of v, C: latent, N: not rotated, R:
// rotated.
#include "train/model/rounded_attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace vl2::train {
namespace {

// Keys whose exponentials have one largest score (engine/cpu/attend.h).
constexpr int64_t kKeyBlock = 256;
const double kLog2E = 1.0 / std::log(2.0);

at::Tensor rounded(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); }

}  // namespace

at::Tensor rounded_attend(const at::Tensor& q_BLHK, const at::Tensor& k_BMHK, const at::Tensor& v_BMHV, double scale,
                          const at::Tensor& mask_BLM) {
  const auto heads_first = [](const at::Tensor& x) { return x.transpose(1, 2).contiguous(); };
  const at::Tensor q_BHLK = rounded(heads_first(q_BLHK) * (scale * kLog2E));
  const at::Tensor k_BHMK = rounded(heads_first(k_BMHK)), v_BHMV = rounded(heads_first(v_BMHV));
  at::Tensor top, sum, mix;
  for (int64_t first = 0; first < k_BHMK.size(2); first += kKeyBlock) {
    const int64_t count = std::min(kKeyBlock, k_BHMK.size(2) - first);
    at::Tensor scores = at::matmul(q_BHLK, k_BHMK.narrow(2, first, count).transpose(2, 3));
    if (mask_BLM.defined()) scores = scores + mask_BLM.narrow(2, first, count).unsqueeze(1);
    const at::Tensor largest = scores.amax(3, true);
    const at::Tensor now = top.defined() ? at::maximum(top, largest) : largest;
    const at::Tensor e = (scores - now).exp2();
    const at::Tensor block_mix = at::matmul(rounded(e), v_BHMV.narrow(2, first, count)), block_sum = e.sum(3, true);
    if (top.defined()) {
      const at::Tensor shrink = (top - now).exp2();
      mix = mix * shrink + block_mix;
      sum = sum * shrink + block_sum;
    } else {
      mix = block_mix;
      sum = block_sum;
    }
    top = now;
  }
  return (mix / sum).transpose(1, 2);
}

at::Tensor absorbed_attend(const at::Tensor& q_LHN, const at::Tensor& q_LHR, const at::Tensor& c_MC,
                           const at::Tensor& pe_MR, const at::Tensor& kv_b, double scale, const at::Tensor& mask_LM) {
  const int64_t nope = q_LHN.size(2), v = kv_b.size(1) - nope;
  const at::Tensor uk_HNC = kv_b.narrow(1, 0, nope), uv_HVC = kv_b.narrow(1, nope, v);
  const at::Tensor latent_HLC = at::bmm(rounded(q_LHN).transpose(0, 1), uk_HNC);
  const at::Tensor scores_HLM =
      (at::matmul(latent_HLC, c_MC.t()) + at::matmul(q_LHR.transpose(0, 1), pe_MR.t())) * scale + mask_LM;
  const at::Tensor mixed_HLC = at::matmul(scores_HLM.softmax(-1), c_MC);
  return at::bmm(rounded(mixed_HLC), uv_HVC.transpose(1, 2)).transpose(0, 1).flatten(1);
}

}  // namespace vl2::train
