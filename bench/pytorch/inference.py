#!/usr/bin/env python3
"""DeepSeek-VL2's layers in plain PyTorch with random bf16 weights, timed on a GPU beside `vl2 bench --device cuda`.

Work and limits are counted as `vl2 bench` counts them: the floor of a piece of work is the larger of its products at the
rate of a large bf16 product and of its bytes at the speed of a copy, read and written; the share is the floor over the
time. Times are of CUDA events around one run each: median (least - greatest).

eager: operation by operation. compiled: torch.compile of a layer, the whole step recorded as one CUDA graph (unless
--no-graph). Attention is scaled_dot_product_attention, but for decoding with latent attention: that is absorbed, over the
latent cache. Routed experts:
  loop     tokens sorted by expert, a product for each expert, as the official code does; waits for the GPU once a layer
  grouped  tokens sorted by expert, torch._grouped_mm
  gather   the chosen experts' weights of every token: copied and multiplied by bmm, or compiled into one reduction
The projections of queries, keys and values lie in one matrix, as do gate and up; the router is float32.

--self-test checks all of it on a small model against an independent computation, in float32, on any device and from
PyTorch 1.13 on.
"""
import argparse
import gc
import statistics
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Language(NamedTuple):
    hidden: int
    layers: int
    heads: int
    rank: int  # of latent attention; 0: multi-head attention, all of a head rotated
    nope: int
    rope: int
    value: int
    dense: int
    expert: int
    experts: int
    top: int
    shared: int  # hidden size of the shared experts together
    vocab: int


class Vision(NamedTuple):
    width: int
    layers: int
    heads: int
    mlp: int
    patch: int
    grid: int


PRESETS = {
    "tiny": Language(1280, 12, 10, 0, 0, 128, 128, 6848, 896, 64, 6, 1792, 129280),
    "small": Language(2048, 27, 16, 512, 128, 64, 128, 10944, 1408, 64, 6, 2816, 102400),
}
SIGLIP = Vision(1152, 27, 16, 4304, 14, 27)
FUSED_NORM = hasattr(F, "rms_norm")
FUSED_ATTENTION = hasattr(F, "scaled_dot_product_attention")
GROUPED_PRODUCT = getattr(torch, "_grouped_mm", None) or getattr(F, "grouped_mm", None)


# ---- layers -----------------------------------------------------------------------------------------------------------

def rms_norm(x, weight):
    if FUSED_NORM:
        return F.rms_norm(x, weight.shape, weight, 1e-6)
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def attend(q, k, v, causal=False, mask=None):
    """[batch, heads, tokens, width] each."""
    if FUSED_ATTENTION:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


def attend_causally(q, k, v):
    """[tokens, heads, width] each, of one sequence."""
    q, k, v = q.transpose(0, 1).unsqueeze(0), k.transpose(0, 1).unsqueeze(0), v.transpose(0, 1).unsqueeze(0)
    return attend(q, k, v, causal=True)[0].transpose(0, 1)


def rotate(x, cos, sin, interleaved):
    """x: [rows, heads, width]. Interleaved pairs come out in halves, of queries and keys alike."""
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def mha(c, w, x, cos, sin, cache, position, mask):
    q, k, v = F.linear(x, w["qkv"]).view(-1, 3, c.heads, c.value).unbind(1)
    q, k = rotate(q, cos, sin, False), rotate(k, cos, sin, False)
    if cache is None:  # rows are the tokens of one sequence
        out = attend_causally(q, k, v)
        cache = (k, v)
    else:  # rows are sequences
        keys, values = cache
        keys[:, :, position] = k.unsqueeze(2)
        values[:, :, position] = v.unsqueeze(2)
        out = attend(q.unsqueeze(2), keys, values, mask=mask)
    return F.linear(out.reshape(x.shape[0], -1), w["o"]), cache


def mla(c, w, x, cos, sin, cache, position, mask, pad_values):
    rows, width = x.shape[0], c.nope + c.rope
    q_nope, q_rope = F.linear(x, w["q"]).view(rows, c.heads, width).split((c.nope, c.rope), -1)
    latent, k_rope = F.linear(x, w["kv_a"]).split((c.rank, c.rope), -1)
    latent = rms_norm(latent, w["kv_norm"])
    q_rope, k_rope = rotate(q_rope, cos, sin, True), rotate(k_rope.unsqueeze(1), cos, sin, True)
    if cache is None:
        k_nope, v = F.linear(latent, w["kv_b"]).view(rows, c.heads, c.nope + c.value).split((c.nope, c.value), -1)
        q, k = torch.cat((q_nope, q_rope), -1), torch.cat((k_nope, k_rope.expand(-1, c.heads, -1)), -1)
        if pad_values:  # to the width of keys: some kernels want that
            v = F.pad(v, (0, width - c.value))
        out = attend_causally(q, k, v)[..., : c.value]
        cache = (torch.cat((latent, k_rope.squeeze(1)), -1),)
    else:
        up = w["kv_b"].view(c.heads, c.nope + c.value, c.rank)
        (seen,) = cache  # [sequences, tokens, rank + rope]
        seen[:, position] = torch.cat((latent.unsqueeze(1), k_rope), -1)
        absorbed = torch.bmm(q_nope.transpose(0, 1), up[:, : c.nope]).transpose(0, 1)
        scores = torch.bmm(torch.cat((absorbed, q_rope), -1), seen.transpose(1, 2)).float() * width**-0.5
        weights = scores.masked_fill(~mask[0], float("-inf")).softmax(-1).to(x.dtype)
        mixed = torch.bmm(weights, seen[..., : c.rank])
        out = torch.bmm(mixed.transpose(0, 1), up[:, c.nope :].transpose(1, 2)).transpose(0, 1)
    return F.linear(out.reshape(rows, -1), w["o"]), cache


def swiglu(x, gate_up, down):
    gate, up = F.linear(x, gate_up).chunk(2, -1)
    return F.linear(F.silu(gate) * up, down)


def grouped_product(x, weights, ends):
    """Rows of x, sorted by expert, times weights [experts, out, in]; ends: of each expert's rows."""
    if x.is_cuda and x.dtype == torch.bfloat16:
        return GROUPED_PRODUCT(x, weights.transpose(1, 2), offs=ends)
    firsts = [0, *ends.tolist()]  # for the self-test
    return torch.cat([F.linear(x[a:b], w) for a, b, w in zip(firsts, firsts[1:], weights)])


def routed(c, w, x, expert, weight, kind):
    flat = expert.flatten()
    if kind in ("gather", "gather-sum"):
        gate_up, down = w["gate_up"][expert], w["down"][expert]  # [rows, top, out, in]
        if kind == "gather-sum":  # for the compiler, which reads the weights where they lie
            gate, up = (gate_up * x[:, None, None, :]).sum(-1).chunk(2, -1)
            out = (down * (F.silu(gate) * up).unsqueeze(2)).sum(-1)
        else:
            gate, up = (gate_up.flatten(0, 1) @ x.repeat_interleave(c.top, 0).unsqueeze(2)).chunk(2, 1)
            out = (down.flatten(0, 1) @ (F.silu(gate) * up)).view(x.shape[0], c.top, -1)
        return (out * weight.unsqueeze(2)).sum(1).to(x.dtype)
    order = flat.argsort()
    counts = torch.zeros(c.experts, dtype=torch.int32, device=x.device)
    counts = counts.scatter_add(0, flat, torch.ones_like(flat, dtype=torch.int32))
    sorted_x = x[order // c.top]
    if kind == "loop":
        outs = []
        for part, gate_up, down in zip(sorted_x.split(counts.tolist()), w["gate_up"], w["down"]):
            if part.shape[0] > 0:
                gate, up = F.linear(part, gate_up[: c.expert]), F.linear(part, gate_up[c.expert :])
                outs.append(F.linear(F.silu(gate) * up, down))
        sorted_out = torch.cat(outs)
    else:
        ends = counts.cumsum(0).to(torch.int32)
        gate, up = grouped_product(sorted_x, w["gate_up"], ends).chunk(2, -1)
        sorted_out = grouped_product(F.silu(gate) * up, w["down"], ends)
    out = torch.empty_like(sorted_out)
    out[order] = sorted_out
    return (out.view(x.shape[0], c.top, -1) * weight.unsqueeze(2)).sum(1).to(x.dtype)


def decoder_layer(c, w, x, cos, sin, kind, cache=None, position=None, mask=None, pad_values=False, chosen=None):
    normed = rms_norm(x, w["before"])
    if c.rank:
        out, cache = mla(c, w, normed, cos, sin, cache, position, mask, pad_values)
    else:
        out, cache = mha(c, w, normed, cos, sin, cache, position, mask)
    x = x + out
    normed = rms_norm(x, w["after"])
    if "router" not in w:
        return x + swiglu(normed, w["dense_gate_up"], w["dense_down"]), cache
    weight, expert = F.linear(normed.float(), w["router"]).softmax(-1).topk(c.top, -1, sorted=False)
    if chosen is not None:
        chosen.append(expert)
    shared = swiglu(normed, w["shared_gate_up"], w["shared_down"])
    return x + shared + routed(c, w, normed, expert, weight, kind), cache


def vision_block(v, w, x):
    tiles, patches, _ = x.shape
    normed = F.layer_norm(x, (v.width,), w["norm1"], w["bias1"], 1e-6)
    qkv = F.linear(normed, w["qkv"], w["qkv_bias"]).view(tiles, patches, 3, v.heads, -1)
    q, k, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    x = x + F.linear(attend(q, k, values).transpose(1, 2).reshape(x.shape), w["proj"], w["proj_bias"])
    normed = F.layer_norm(x, (v.width,), w["norm2"], w["bias2"], 1e-6)
    return x + F.linear(F.gelu(F.linear(normed, w["fc1"], w["fc1_bias"]), approximate="tanh"), w["fc2"], w["fc2_bias"])


# ---- models -----------------------------------------------------------------------------------------------------------

class Weights:
    def __init__(self, device, dtype):
        self.device, self.dtype = device, dtype

    def normal(self, *shape, dtype=None):
        return torch.empty(shape, device=self.device, dtype=dtype or self.dtype).normal_(0, 0.02)

    def ones(self, width):
        return torch.ones(width, device=self.device, dtype=self.dtype)


class LanguageModel:
    def __init__(self, c, device, dtype):
        self.c, make = c, Weights(device, dtype)
        self.embed, self.head = make.normal(c.vocab, c.hidden), make.normal(c.vocab, c.hidden)
        self.norm = make.ones(c.hidden)
        self.layers = []
        for i in range(c.layers):
            w = {"before": make.ones(c.hidden), "after": make.ones(c.hidden), "o": make.normal(c.hidden, c.heads * c.value)}
            if c.rank:
                w["q"] = make.normal(c.heads * (c.nope + c.rope), c.hidden)
                w["kv_a"], w["kv_norm"] = make.normal(c.rank + c.rope, c.hidden), make.ones(c.rank)
                w["kv_b"] = make.normal(c.heads * (c.nope + c.value), c.rank)
            else:
                w["qkv"] = make.normal(3 * c.heads * c.value, c.hidden)
            if i == 0:
                w["dense_gate_up"], w["dense_down"] = make.normal(2 * c.dense, c.hidden), make.normal(c.hidden, c.dense)
            else:
                w["router"] = make.normal(c.experts, c.hidden, dtype=torch.float32)
                w["gate_up"] = make.normal(c.experts, 2 * c.expert, c.hidden)
                w["down"] = make.normal(c.experts, c.hidden, c.expert)
                w["shared_gate_up"], w["shared_down"] = make.normal(2 * c.shared, c.hidden), make.normal(c.hidden, c.shared)
            self.layers.append(w)
        angle = torch.outer(torch.arange(4096.0), 10000.0 ** -(torch.arange(0.0, c.rope, 2) / c.rope)).to(device)
        self.cos, self.sin = angle.cos().to(dtype).unsqueeze(1), angle.sin().to(dtype).unsqueeze(1)

    def logits(self, x):
        return F.linear(rms_norm(x, self.norm), self.head).float()

    def prefill(self, ids, kind, layer=decoder_layer, pad_values=False):
        x, caches = self.embed[ids], []
        cos, sin = self.cos[: len(ids)], self.sin[: len(ids)]
        for w in self.layers:
            x, cache = layer(self.c, w, x, cos, sin, kind, pad_values=pad_values)
            caches.append(cache)
        return self.logits(x[-1:]), caches

    def empty_caches(self, batch, tokens):
        c, like = self.c, self.embed
        if c.rank:
            return [(like.new_empty(batch, tokens, c.rank + c.rope).normal_(),) for _ in self.layers]
        return [tuple(like.new_empty(batch, c.heads, tokens, c.value).normal_() for _ in range(2)) for _ in self.layers]

    def decode(self, ids, caches, position, kind, layer=decoder_layer, chosen=None):
        """One token of each sequence; position: a tensor, so that a recorded step serves every position."""
        x, cos, sin = self.embed[ids], self.cos[position], self.sin[position]
        tokens = caches[0][0].shape[1 if self.c.rank else 2]
        mask = (torch.arange(tokens, device=x.device) <= position).view(1, 1, 1, tokens)
        for w, cache in zip(self.layers, caches):
            x, _ = layer(self.c, w, x, cos, sin, kind, cache, position, mask, chosen=chosen)
        return self.logits(x)


class VisionModel:
    """Encoder and projector, without the assembly of tiles."""

    def __init__(self, v, hidden, device, dtype):
        self.v, make = v, Weights(device, dtype)
        w = v.width
        self.embed, self.embed_bias = make.normal(w, 3 * v.patch**2), make.normal(w)
        self.position, self.norm, self.bias = make.normal(v.grid**2, w), make.ones(w), make.normal(w)
        self.first, self.first_bias = make.normal(hidden, 4 * w), make.normal(hidden)
        self.second, self.second_bias = make.normal(hidden, hidden), make.normal(hidden)
        self.blocks = [{"norm1": make.ones(w), "bias1": make.normal(w), "norm2": make.ones(w), "bias2": make.normal(w),
                        "qkv": make.normal(3 * w, w), "qkv_bias": make.normal(3 * w), "proj": make.normal(w, w),
                        "proj_bias": make.normal(w), "fc1": make.normal(v.mlp, w), "fc1_bias": make.normal(v.mlp),
                        "fc2": make.normal(w, v.mlp), "fc2_bias": make.normal(w)} for _ in range(v.layers)]

    def __call__(self, tiles, block=vision_block):
        """tiles: [tiles, 3, side, side], side at least grid * patch."""
        v, count = self.v, len(tiles)
        cut = tiles[:, :, : v.grid * v.patch, : v.grid * v.patch]
        patches = cut.reshape(count, 3, v.grid, v.patch, v.grid, v.patch).permute(0, 2, 4, 1, 3, 5)
        x = F.linear(patches.reshape(count, v.grid**2, -1), self.embed, self.embed_bias) + self.position
        for w in self.blocks:
            x = block(v, w, x)
        x = F.layer_norm(x, (v.width,), self.norm, self.bias, 1e-6)
        half = (v.grid + 1) // 2
        x = F.pad(x.view(count, v.grid, v.grid, v.width), (0, 0, 0, v.grid % 2, 0, v.grid % 2))
        x = x.view(count, half, 2, half, 2, v.width).permute(0, 1, 3, 5, 2, 4).reshape(count, half * half, 4 * v.width)
        return F.linear(F.gelu(F.linear(x, self.first, self.first_bias)), self.second, self.second_bias)


# ---- what the work takes at least -------------------------------------------------------------------------------------

def attention_values(c):
    q = c.heads * (c.nope + c.rope)
    kv = c.hidden * (c.rank + c.rope) + c.rank * c.heads * (c.nope + c.value) if c.rank else 2 * c.hidden * q
    return c.hidden * (q + c.heads * c.value) + kv


def layers_values(c, experts):
    """Values of the matrices of all layers, with so many routed experts in a layer."""
    mixture = c.hidden * c.experts + 3 * c.hidden * (experts * c.expert + c.shared)
    return c.layers * attention_values(c) + 3 * c.hidden * c.dense + (c.layers - 1) * mixture


def language_flops(c, tokens, past=0):
    pairs = tokens * past + tokens * (tokens + 1) / 2
    attention = c.layers * c.heads * 2 * (c.nope + c.rope + c.value) * pairs
    return 2 * (tokens * layers_values(c, c.top) + c.vocab * c.hidden) + attention


def language_bytes(c, rows, experts, cached):
    """Of a step: weights once, of routed experts those chosen, and the cache of every sequence."""
    width = c.rank + c.rope if c.rank else 2 * c.heads * c.value
    values = layers_values(c, experts) + c.vocab * c.hidden + rows * c.hidden
    return 2 * (values + c.layers * cached * width)


def vision_flops(v, hidden):
    patches, out, w = v.grid**2, ((v.grid + 1) // 2) ** 2, v.width
    encoder = 2 * patches * (3 * v.patch**2 * w + v.layers * (4 * w * w + 2 * w * v.mlp))
    return encoder + 4 * v.layers * patches**2 * w + 2 * out * (4 * w * hidden + hidden * hidden)


# ---- timing -----------------------------------------------------------------------------------------------------------

def timed(run, repeats):
    """Milliseconds of each run, after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)


def measure_limits():
    """Bytes a second of a copy, read and written; FLOP/s of a large bf16 product."""
    values = torch.randn(2, 1 << 28, device="cuda", dtype=torch.bfloat16)
    side = 8192
    a, b = (part[: side * side].view(side, side) for part in values)
    out = torch.empty(side, side, device="cuda", dtype=torch.bfloat16)

    def each(run, count):
        return timed(lambda: [run() for _ in range(count)], 2)[0] / 1e3 / count

    copy = 2 * values[0].numel() * 2 / each(lambda: values[1].copy_(values[0]), 20)
    return copy, 2 * side**3 / each(lambda: torch.mm(a, b.t(), out=out), 8)


def record(run):
    """run() as a CUDA graph, and its result."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph, result


class Bench:
    def __init__(self, options):
        self.options, self.limits = options, None

    def start(self):
        from torch import _dynamo  # not in early versions, which can only test

        self.forget_compiled = _dynamo.reset
        for name in ("recompile_limit", "cache_size_limit"):
            if hasattr(_dynamo.config, name):
                setattr(_dynamo.config, name, 64)
        self.limits = measure_limits()
        print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}: copy {self.limits[0] / 1e12:.2f} TB/s read "
              f"and written, bf16 products of 8192 cubed {self.limits[1] / 1e12:.0f} TFLOP/s", flush=True)
        print(f"{'work':<32}{'experts':<9}{'eager ms':<27}{'compiled ms':<27}{'best rate':<20}{'share':<7}"
              f"{'limit':<9}{'differ':<9}{'took s'}", flush=True)

    def line(self, name, experts, run, compiled_run, count, unit, flops, bytes_read, to_host=False):
        """run(): eager; compiled_run(): the same with compiled layers, or None. to_host: its result is copied there."""
        began, cells, best, differ = time.time(), [], None, ""
        eager_result = None
        for way, work in (("eager", run), ("compiled", compiled_run)):
            cell = "-"
            try:
                if work is not None and way not in self.options.skip:
                    self.forget_compiled()
                    result = work()
                    host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True) if to_host else None
                    if way == "compiled" and not self.options.no_graph:
                        graph, result = record(work)
                        replayed = result
                        work = lambda: (graph.replay(), replayed)[1]
                    times = timed(lambda: host.copy_(work(), non_blocking=True) if to_host else work(), self.options.repeats)
                    median = statistics.median(times)
                    best = median if best is None else min(best, median)
                    cell = f"{median:.3f} ({times[0]:.3f} - {times[-1]:.3f})"
                    if way == "eager":
                        eager_result = result.clone()
                    elif eager_result is not None:
                        differ = f"{((result - eager_result).norm() / eager_result.norm()).item():.3f}"
            except Exception as error:  # the other pieces still run
                cell = "failed"
                print(f"{name}, {experts}, {way}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
            cells.append(cell)
        rate, share, limit = "", "", ""
        before, self.limits = self.limits, measure_limits()
        if best is not None:
            copy, products = (max(pair) for pair in zip(before, self.limits))
            read, compute = bytes_read / copy * 1e3, flops / products * 1e3
            rate = f"{count / best * 1e3:,.0f} {unit}/s"
            share, limit = f"{max(read, compute) / best:.2f}", "products" if compute > read else "copy"
        print(f"{name:<32}{experts:<9}{cells[0]:<27}{cells[1]:<27}{rate:<20}{share:<7}{limit:<9}{differ:<9}"
              f"{time.time() - began:.1f}", flush=True)

    def vision(self):
        hidden = PRESETS["tiny"].hidden
        model = VisionModel(SIGLIP, hidden, "cuda", torch.bfloat16)
        tiles = torch.rand(self.options.tiles, 3, 384, 384, device="cuda").mul_(2).sub_(1).to(torch.bfloat16)
        block = torch.compile(vision_block, dynamic=False)
        self.line(f"vision, {len(tiles)} tiles", "", lambda: model(tiles), lambda: model(tiles, block), len(tiles), "tiles",
                  vision_flops(SIGLIP, hidden) * len(tiles), 0)

    def pads_values(self, model, ids):
        """Whether attention in prefill is faster with values padded to the width of keys."""
        c, times = model.c, {}
        x = torch.randn(len(ids), c.hidden, device="cuda", dtype=torch.bfloat16)
        cos, sin = model.cos[: len(ids)], model.sin[: len(ids)]
        for pad in (False, True):
            try:
                times[pad] = timed(lambda: mla(c, model.layers[0], x, cos, sin, None, None, None, pad), 5)[2]
            except Exception as error:
                print(f"prefill, values {'padded' if pad else 'as they are'}: {type(error).__name__}", flush=True)
        print("latent attention of a prefill's layer: " + ", ".join(
            f"{t:.3f} ms with values {'padded' if pad else 'as they are'}" for pad, t in times.items()), flush=True)
        return min(times, key=times.get) if times else True

    def prefill(self, name, model):
        tokens = self.options.tokens
        ids = torch.randint(model.c.vocab, (tokens,), device="cuda")
        pad = self.pads_values(model, ids) if model.c.rank else False
        layer = torch.compile(decoder_layer, dynamic=False)
        flops = language_flops(model.c, tokens)
        read = language_bytes(model.c, tokens, model.c.experts, 0)
        for kind in ("loop", "grouped"):
            compiled = lambda: model.prefill(ids, kind, layer, pad)[0]
            self.line(f"{name}, prefill of {tokens}", kind, lambda: model.prefill(ids, kind, pad_values=pad)[0],
                      compiled if kind == "grouped" else None, tokens, "tokens", flops, read, True)

    def decode(self, name, model, batch):
        context, c = self.options.context, model.c
        ids = torch.randint(c.vocab, (batch,), device="cuda")
        position = torch.tensor([context], device="cuda")
        caches = model.empty_caches(batch, context + 16)
        layer = torch.compile(decoder_layer, dynamic=False)
        chosen = []
        model.decode(ids, caches, position, "gather", chosen=chosen)
        distinct = sum(len(expert.unique()) for expert in chosen) / len(chosen)
        flops = batch * language_flops(c, 1, context)
        read = language_bytes(c, batch, distinct, batch * context)
        for kind in ("gather", "grouped"):
            compiled_kind = "gather-sum" if kind == "gather" else kind
            self.line(f"{name}, decode after {context} x {batch}", kind,
                      lambda: model.decode(ids, caches, position, kind),
                      lambda: model.decode(ids, caches, position, compiled_kind, layer),
                      batch, "tokens", flops, read, True)

    def guarded(self, name, run, *arguments):
        try:
            run(*arguments)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)
        gc.collect()
        torch.cuda.empty_cache()

    def run(self):
        began = time.time()
        self.start()
        if "vision" in self.options.only:
            self.guarded("vision", self.vision)
        for preset in self.options.presets:
            if not {"prefill", "decode"} & set(self.options.only):
                break
            self.guarded(preset, self.language, preset)
        print(f"after that: copy {self.limits[0] / 1e12:.2f} TB/s, products {self.limits[1] / 1e12:.0f} TFLOP/s; "
              f"{time.time() - began:.0f} s in all")

    def language(self, preset):
        model = LanguageModel(PRESETS[preset], "cuda", torch.bfloat16)
        if "prefill" in self.options.only:
            self.guarded(f"{preset}, prefill", self.prefill, preset, model)
        if "decode" in self.options.only:
            for batch in self.options.batch:
                self.guarded(f"{preset}, decode x {batch}", self.decode, preset, model, batch)


# ---- self-test --------------------------------------------------------------------------------------------------------

def naive_language(model, ids):
    """Logits of the last token: every head, token and expert by itself, in float64, keys and values expanded."""
    c, n = model.c, len(ids)
    wide = lambda t: t.double().cpu()
    norm = lambda x, w: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * wide(w)
    silu = lambda x: x / (1 + (-x).exp())
    mlp = lambda x, gate_up, down: wide(down) @ (silu((wide(gate_up) @ x).chunk(2)[0]) * (wide(gate_up) @ x).chunk(2)[1])

    def turn(x, position):  # pairs as complex numbers
        width = len(x)
        angle = position * 10000.0 ** -(torch.arange(0, width, 2).double() / width)
        real, imaginary = (x[0::2], x[1::2]) if c.rank else (x[: width // 2], x[width // 2 :])
        turned = torch.complex(real, imaginary) * torch.complex(angle.cos(), angle.sin())
        return torch.cat((turned.real, turned.imag))

    x = wide(model.embed)[ids.cpu()]
    for w in model.layers:
        normed, out = norm(x, w["before"]), torch.zeros_like(x)
        for h in range(c.heads):
            keys, values, queries = [], [], []
            for t in range(n):
                if c.rank:
                    width = c.nope + c.rope
                    q = wide(w["q"])[h * width : (h + 1) * width] @ normed[t]
                    kv = wide(w["kv_a"]) @ normed[t]
                    expanded = wide(w["kv_b"]).view(c.heads, -1, c.rank)[h] @ norm(kv[: c.rank], w["kv_norm"])
                    queries.append(torch.cat((q[: c.nope], turn(q[c.nope :], t))))
                    keys.append(torch.cat((expanded[: c.nope], turn(kv[c.rank :], t))))
                    values.append(expanded[c.nope :])
                else:
                    q, k, v = (part[h * c.value : (h + 1) * c.value] @ normed[t] for part in wide(w["qkv"]).chunk(3))
                    queries.append(turn(q, t))
                    keys.append(turn(k, t))
                    values.append(v)
            for t in range(n):
                scores = torch.stack([queries[t] @ keys[s] for s in range(t + 1)]) / len(keys[0]) ** 0.5
                mixed = sum(p * values[s] for s, p in enumerate(scores.softmax(0)))
                out[t] += wide(w["o"])[:, h * c.value : (h + 1) * c.value] @ mixed
        x = x + out
        normed = norm(x, w["after"])
        for t in range(n):
            if "router" not in w:
                x[t] += mlp(normed[t], w["dense_gate_up"], w["dense_down"])
                continue
            scores = (wide(w["router"]) @ normed[t]).softmax(0)
            for e in scores.argsort(descending=True)[: c.top]:
                x[t] += scores[e] * mlp(normed[t], w["gate_up"][e], w["down"][e])
            x[t] += mlp(normed[t], w["shared_gate_up"], w["shared_down"])
    return wide(model.head) @ norm(x[-1], model.norm)


def naive_vision(model, tiles):
    """By convolution, torch's attention module and unfold, as the official code has it."""
    v, w = model.v, model.v.width

    def norm(y, weight, bias):
        y = y - y.mean(-1, keepdim=True)
        return y / (y.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight + bias

    kernel = model.embed.view(w, 3, v.patch, v.patch)
    x = F.conv2d(tiles, kernel, model.embed_bias, stride=v.patch).flatten(2).transpose(1, 2) + model.position
    for b in model.blocks:
        attention = torch.nn.MultiheadAttention(w, v.heads, batch_first=True, device=x.device)
        for parameter, value in ((attention.in_proj_weight, b["qkv"]), (attention.in_proj_bias, b["qkv_bias"]),
                                 (attention.out_proj.weight, b["proj"]), (attention.out_proj.bias, b["proj_bias"])):
            parameter.data.copy_(value)
        normed = norm(x, b["norm1"], b["bias1"])
        x = x + attention(normed, normed, normed, need_weights=False)[0]
        y = norm(x, b["norm2"], b["bias2"]) @ b["fc1"].t() + b["fc1_bias"]
        y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
        x = x + y @ b["fc2"].t() + b["fc2_bias"]
    x = norm(x, model.norm, model.bias).transpose(1, 2).reshape(len(tiles), w, v.grid, v.grid)
    x = F.unfold(F.pad(x, (0, v.grid % 2, 0, v.grid % 2)), 2, stride=2).transpose(1, 2)
    y = x @ model.first.t() + model.first_bias
    return 0.5 * y * (1 + torch.erf(y / 2**0.5)) @ model.second.t() + model.second_bias


def self_test(device):
    worst = 0.0

    def check(what, got, expected):
        nonlocal worst
        difference = ((got.double().cpu() - expected.double().cpu()).norm() / expected.double().norm().cpu()).item()
        worst = max(worst, difference)
        print(f"{what:<40}{difference:.1e}")

    spread = lambda w: [value.mul_(5) for value in w.values() if value.dim() > 1]  # so that attention prefers something
    small = {"multi-head": Language(32, 3, 2, 0, 0, 16, 16, 48, 24, 8, 3, 40, 50),
             "latent": Language(32, 3, 2, 24, 16, 8, 12, 48, 24, 8, 3, 40, 50)}
    for name, c in small.items():
        model = LanguageModel(c, device, torch.float32)
        for w in model.layers:
            spread(w)
        ids = torch.randint(c.vocab, (2, 11), device=device)
        expected = torch.stack([naive_language(model, row) for row in ids])
        for kind in ("loop", "grouped", "gather", "gather-sum"):
            for pad in (False, True):
                got = torch.cat([model.prefill(row, kind, pad_values=pad)[0] for row in ids])
                check(f"{name}, prefill, {kind}{', padded' if pad else ''}", got, expected)
            caches = model.empty_caches(2, 16)
            for s, row in enumerate(ids):
                for cache, made in zip(caches, model.prefill(row[:-1], kind)[1]):
                    for whole, part in zip(cache, made):
                        if c.rank:
                            whole[s, : len(part)] = part
                        else:
                            whole[s, :, : len(part)] = part.transpose(0, 1)
            got = model.decode(ids[:, -1], caches, torch.tensor([10], device=device), kind)
            check(f"{name}, decode, {kind}", got, expected)
    vision = VisionModel(Vision(24, 2, 3, 40, 4, 5), 32, device, torch.float32)
    for w in vision.blocks:
        spread(w)
    tiles = torch.rand(2, 3, 23, 23, device=device)
    check("vision", vision(tiles), naive_vision(vision, tiles))
    print("passed" if worst < 1e-4 else "FAILED")
    return 0 if worst < 1e-4 else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda text: text.split(",")
    numbers = lambda text: [int(word) for word in text.split(",")]
    parser.add_argument("--only", type=words, default=["vision", "prefill", "decode"], help="vision,prefill,decode")
    parser.add_argument("--presets", type=words, default=["tiny", "small"], help="tiny,small")
    parser.add_argument("--tiles", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=2048, help="of the prefill (2048)")
    parser.add_argument("--context", type=int, default=512, help="tokens before the decoded one (512)")
    parser.add_argument("--batch", type=numbers, default=[1, 8], help="sequences that decode together (1,8)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--skip", type=words, default=[], help="eager or compiled")
    parser.add_argument("--no-graph", action="store_true", help="compiled layers are started one by one")
    parser.add_argument("--self-test", action="store_true", help="check the layers instead of timing them")
    options = parser.parse_args()
    torch.manual_seed(1)
    with torch.no_grad():
        if options.self_test:
            return self_test("cuda" if torch.cuda.is_available() else "cpu")
        Bench(options).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
