#!/usr/bin/env python3
"""Training steps of DeepSeek-VL2's layers in plain PyTorch, to be put beside those of `vl2-train`.

A step is what the trainer does with a batch of one micro-batch: forward in bf16 autocast over float32 weights, backward,
clipping, AdamW. Two models: `nano`, with pictures, and `wide`, two decoder layers of Tiny's width on text. Weights and
data are random. Samples have one length, so nothing is padded, and the decoder's logits are computed only where there
is a loss. Works with PyTorch 1.13 and later.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

NANO = dict(hidden=256, layers=5, heads=4, rank=64, nope=48, rope=16, value=48, dense=768, expert=128, experts=8, top=2,
            shared=1, vocab=640, supervised=0.25, samples=2,
            vision=dict(width=192, layers=5, heads=3, mlp=768, patch=14, grid=11, tiles=4.9))
WIDE = dict(hidden=1280, layers=2, heads=10, rank=0, nope=0, rope=128, value=128, dense=6848, expert=896, experts=64,
            top=6, shared=2, vocab=640, supervised=1.0, samples=1, vision=None)
ROW = 512  # tokens of a sequence
clock = time.perf_counter


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6))


def linear(inputs, outputs, bias=False):
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, 0, 0.02)
    return layer


def attend(q, k, v, causal):
    """q, k, v: [samples, heads, tokens, width]."""
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    """Multi-head attention, or with a rank latent attention, keys and values expanded."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        h, heads = c["hidden"], c["heads"]
        self.q = linear(h, heads * (c["nope"] + c["rope"]))
        self.o = linear(heads * c["value"], h)
        if c["rank"]:
            self.kv_a = linear(h, c["rank"] + c["rope"])
            self.norm = RmsNorm(c["rank"])
            self.kv_b = linear(c["rank"], heads * (c["nope"] + c["value"]))
        else:
            self.k, self.v = linear(h, heads * c["rope"]), linear(h, heads * c["value"])

    def forward(self, x, cos, sin):
        c = self.c
        samples, tokens, _ = x.shape

        def by_head(y):
            return y.view(samples, tokens, c["heads"], -1).transpose(1, 2)

        q = by_head(self.q(x))
        if c["rank"]:
            latent, k_rope = self.kv_a(x).split((c["rank"], c["rope"]), -1)
            k, v = by_head(self.kv_b(self.norm(latent))).split((c["nope"], c["value"]), -1)
            q_nope, q_rope = q.split((c["nope"], c["rope"]), -1)
            k_rope = rotate(k_rope.unsqueeze(1), cos, sin).expand(-1, c["heads"], -1, -1)
            q = torch.cat((q_nope, rotate(q_rope, cos, sin).to(q.dtype)), -1)
            k = torch.cat((k, k_rope.to(k.dtype)), -1)
        else:
            k, v = by_head(self.k(x)), by_head(self.v(x))
            q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        return self.o(attend(q, k, v, True).transpose(1, 2).reshape(samples, tokens, -1))


class SwiGlu(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate, self.up, self.down = linear(width, hidden), linear(width, hidden), linear(hidden, width)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Routed experts as one product over [experts, rows, width], rows a multiple of 64 (batched), as one for each expert
    (each), or by torch._grouped_mm (grouped, on a GPU)."""

    def __init__(self, c, kind):
        super().__init__()
        self.c, self.kind = c, kind
        self.router = linear(c["hidden"], c["experts"])
        stacked = lambda rows, cols: nn.Parameter(torch.empty(c["experts"], rows, cols).normal_(0, 0.02))
        self.gate, self.up = stacked(c["expert"], c["hidden"]), stacked(c["expert"], c["hidden"])
        self.down = stacked(c["hidden"], c["expert"])
        self.shared = SwiGlu(c["hidden"], c["shared"] * c["expert"])

    def balance_loss(self, scores, chosen, samples):
        experts = self.c["experts"]
        share = F.one_hot(chosen, experts).sum(1).to(scores.dtype).view(samples, -1, experts).mean(1)
        mean = scores.view(samples, -1, experts).mean(1)
        return (share * mean).sum(1).mean() * experts / self.c["top"] * 0.001

    def forward(self, x_STD):
        c = self.c
        x = x_STD.reshape(-1, c["hidden"])
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.router.weight).softmax(-1)
        weight, chosen = scores.topk(c["top"], -1)
        order = chosen.flatten().argsort()
        counts = torch.zeros(c["experts"], dtype=torch.long, device=x.device)
        counts = counts.scatter_add(0, chosen.flatten(), torch.ones_like(chosen.flatten()))
        x_bf16 = x.to(torch.bfloat16)
        if self.kind == "grouped":
            ends = counts.cumsum(0).to(torch.int32)
            gate, up, down = (w.to(torch.bfloat16).transpose(1, 2) for w in (self.gate, self.up, self.down))
            parts = x_bf16[order // c["top"]]
            hidden = F.silu(torch._grouped_mm(parts, gate, offs=ends)) * torch._grouped_mm(parts, up, offs=ends)
            outs = torch._grouped_mm(hidden, down, offs=ends)
        elif self.kind == "batched":
            most = -(-int(counts.max()) // 64) * 64
            first = counts.cumsum(0) - counts
            sorted_expert = chosen.flatten()[order]
            place = sorted_expert * most + torch.arange(len(order), device=x.device) - first[sorted_expert]
            packed = x_bf16.new_zeros(c["experts"] * most, c["hidden"]).index_copy(0, place, x_bf16[order // c["top"]])
            packed = packed.view(c["experts"], most, c["hidden"])
            hidden = F.silu(packed @ self.gate.transpose(1, 2)) * (packed @ self.up.transpose(1, 2))
            outs = (hidden @ self.down.transpose(1, 2)).flatten(0, 1)[place]
        else:
            parts = x_bf16[order // c["top"]].split(counts.tolist())
            outs = torch.cat([F.linear(F.silu(F.linear(p, self.gate[e])) * F.linear(p, self.up[e]), self.down[e])
                              for e, p in enumerate(parts) if len(p)])
        back = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=x.device))
        routed = (outs[back].view(*chosen.shape, -1) * weight.unsqueeze(-1)).sum(1)
        return routed.view_as(x_STD) + self.shared(x_STD), self.balance_loss(scores, chosen, len(x_STD))


class DecoderLayer(nn.Module):
    def __init__(self, c, index, experts):
        super().__init__()
        self.before, self.after = RmsNorm(c["hidden"]), RmsNorm(c["hidden"])
        self.attention = Attention(c)
        self.mlp = Experts(c, experts) if index else SwiGlu(c["hidden"], c["dense"])

    def forward(self, x, cos, sin):
        x = x + self.attention(self.before(x), cos, sin)
        out = self.mlp(self.after(x))
        out, loss = out if isinstance(out, tuple) else (out, 0.0)
        return x + out, loss


class VisionBlock(nn.Module):
    def __init__(self, v):
        super().__init__()
        w = v["width"]
        self.heads = v["heads"]
        self.norm1, self.norm2 = nn.LayerNorm(w, 1e-6), nn.LayerNorm(w, 1e-6)
        self.qkv, self.proj = linear(w, 3 * w, True), linear(w, w, True)
        self.fc1, self.fc2 = linear(w, v["mlp"], True), linear(v["mlp"], w, True)

    def forward(self, x):
        tiles, patches, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(tiles, patches, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(attend(q, k, v, False).transpose(1, 2).reshape(x.shape))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class Vision(nn.Module):
    """Encoder and projector: [tiles, patches, pixels] -> [tiles * tokens, hidden]."""

    def __init__(self, v, hidden):
        super().__init__()
        self.v = v
        self.embed = linear(3 * v["patch"] ** 2, v["width"], True)
        self.position = nn.Parameter(torch.zeros(v["grid"] ** 2, v["width"]))
        self.blocks = nn.ModuleList(VisionBlock(v) for _ in range(v["layers"]))
        self.norm = nn.LayerNorm(v["width"], 1e-6)
        self.first, self.second = linear(4 * v["width"], hidden, True), linear(hidden, hidden, True)

    def forward(self, patches):
        x = self.embed(patches) + self.position
        for block in self.blocks:
            x = block(x)
        tiles, side, width = len(x), self.v["grid"] + 1, self.v["width"]
        grid = F.pad(self.norm(x).view(tiles, side - 1, side - 1, width), (0, 0, 0, 1, 0, 1))
        grid = grid.view(tiles, side // 2, 2, side // 2, 2, width).permute(0, 1, 3, 5, 2, 4)
        return self.second(F.gelu(self.first(grid.reshape(-1, 4 * width))))


class Model(nn.Module):
    def __init__(self, c, experts):
        super().__init__()
        self.embed = nn.Embedding(c["vocab"], c["hidden"])
        nn.init.normal_(self.embed.weight, 0, 0.02)
        self.vision = Vision(c["vision"], c["hidden"]) if c["vision"] else None
        self.layers = nn.ModuleList(DecoderLayer(c, i, experts) for i in range(c["layers"]))
        self.norm, self.head = RmsNorm(c["hidden"]), linear(c["hidden"], c["vocab"])
        angle = torch.outer(torch.arange(ROW), 10000.0 ** -(torch.arange(0, c["rope"], 2) / c["rope"]))
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, batch):
        x = self.embed(batch["ids"])
        if self.vision is not None:
            seen = self.vision(batch["patches"])
            x = x.flatten(0, 1).index_copy(0, batch["places"], seen.to(x.dtype)).view_as(x)
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        balance = 0.0
        for layer in self.layers:
            x, loss = layer(x, cos, sin)
            balance = balance + loss
        logits = self.head(self.norm(x.flatten(0, 1)[batch["supervised"]]))
        return F.cross_entropy(logits.float(), batch["targets"]) + balance


def make_batch(c, rows, device):
    samples, length = rows * c["samples"], ROW // c["samples"]
    tokens = rows * ROW
    count = int(tokens * c["supervised"])
    batch = dict(ids=torch.randint(c["vocab"], (samples, length)), supervised=torch.randperm(tokens)[:count].sort()[0],
                 targets=torch.randint(c["vocab"], (count,)))
    if c["vision"]:
        v = c["vision"]
        tiles = round(v["tiles"] * rows)
        batch["patches"] = torch.rand(tiles, v["grid"] ** 2, 3 * v["patch"] ** 2) * 2 - 1
        batch["places"] = torch.randperm(tokens)[: tiles * ((v["grid"] + 1) // 2) ** 2]
    return {name: value.to(device) for name, value in batch.items()}


def step_flops(c, rows):
    """Of the products and attention, forward and twice that backward."""
    samples, length, h = rows * c["samples"], ROW // c["samples"], c["hidden"]
    q = c["heads"] * (c["nope"] + c["rope"])
    kv = h * (c["rank"] + c["rope"]) + c["rank"] * c["heads"] * (c["nope"] + c["value"]) if c["rank"] else 2 * h * q
    attention = h * q + kv + c["heads"] * c["value"] * h
    mixture = h * c["experts"] + 3 * h * c["expert"] * (c["top"] + c["shared"])
    token = 2 * (c["layers"] * attention + 3 * h * c["dense"] + (c["layers"] - 1) * mixture)
    pairs = samples * length * (length + 1) / 2
    total = token * rows * ROW + 2 * c["layers"] * (q + c["heads"] * c["value"]) * pairs
    total += 2 * h * c["vocab"] * rows * ROW * c["supervised"]
    if c["vision"]:
        v = c["vision"]
        p, w, out = v["grid"] ** 2, v["width"], ((v["grid"] + 1) // 2) ** 2
        tile = 2 * p * (3 * v["patch"] ** 2 * w + v["layers"] * (4 * w * w + 2 * w * v["mlp"]))
        tile += 4 * v["layers"] * p * p * w
        total += round(v["tiles"] * rows) * (tile + 2 * out * (4 * w * h + h * h))
    return 3 * total


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def processor_seconds():
    return time.process_time() / torch.get_num_threads()


def seconds(run, device):
    synchronize(device)
    start = clock()
    run()
    synchronize(device)
    return clock() - start


def product_peak(device):
    """TFLOP/s of large products by type, the best of several."""
    side = 8192 if device == "cuda" else 2048
    peaks = {}
    for kind in (torch.bfloat16,) if device == "cuda" else (torch.bfloat16, torch.float32):
        a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        torch.mm(a, b)
        peaks[str(kind)[6:]] = 2 * side**3 / min(seconds(lambda: torch.mm(a, b), device) for _ in range(5)) / 1e12
    return peaks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("nano", "wide"), default="nano")
    parser.add_argument("--rows", type=int, default=8, help=f"sequences of {ROW} tokens in a step (8)")
    parser.add_argument("--steps", type=int, default=8, help="timed steps (8)")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them (3)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (all)")
    parser.add_argument("--experts", choices=("batched", "each", "grouped"), default="batched",
                        help="their products: one for all, one for each, or torch._grouped_mm on a GPU (batched)")
    parser.add_argument("--compile", action="store_true", help="torch.compile of encoder blocks and attention")
    parser.add_argument("--processor-time", action="store_true",
                        help="of the CPU, over the threads, instead of the clock: for a machine that others use too")
    parser.add_argument("--profile", action="store_true", help="where a step's time goes, by operation")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    if options.processor_time:
        global clock
        clock = processor_seconds
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    device, c = options.device, NANO if options.model == "nano" else WIDE
    model = Model(c, options.experts).to(device)
    if options.compile:
        for module in [*(model.vision.blocks if model.vision else ()), *(layer.attention for layer in model.layers)]:
            module.compile(dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                  **({"fused": True} if device == "cuda" else {}))
    batch = make_batch(c, options.rows, device)
    parts = {"forward": [], "backward": [], "optimiser": []}

    def forward():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16):
            step.loss = model(batch)

    def update():
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def step():
        for name, run in (("forward", forward), ("backward", lambda: step.loss.backward()), ("optimiser", update)):
            if timing_parts:
                parts[name].append(seconds(run, device))
            else:
                run()

    timing_parts = False
    started = clock()
    for _ in range(options.warm_up):
        step()
    synchronize(device)
    warm = clock() - started
    times = sorted(seconds(step, device) for _ in range(options.steps))
    timing_parts = True
    for _ in range(max(2, options.steps // 2)):
        step()
    if options.profile:
        timing_parts = False
        with torch.profiler.profile() as profile:
            step()
        key = "self_cuda_time_total" if device == "cuda" else "self_cpu_time_total"
        print(profile.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=40))
    peaks = product_peak(device)
    median, flops = statistics.median(times), step_flops(c, options.rows)
    result = {
        "model": options.model, "torch": torch.__version__, "device": device, "threads": torch.get_num_threads(),
        "experts": options.experts, "compiled": options.compile, "tokens": options.rows * ROW,
        "tiles": len(batch["patches"]) if c["vision"] else 0, "parameters": sum(p.numel() for p in model.parameters()),
        "ms": 1e3 * median, "ms_min": 1e3 * times[0], "ms_max": 1e3 * times[-1],
        "tokens_per_second": options.rows * ROW / median, "gflop": flops / 1e9, "tflops": flops / median / 1e12,
        "peaks": peaks, "share": flops / median / 1e12 / max(peaks.values()), "warm_up_s": warm,
        "parts_ms": {name: 1e3 * statistics.median(values) for name, values in parts.items()},
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.model}, {device}, PyTorch {torch.__version__}, {result['threads']} threads, experts "
          f"{options.experts}{', compiled' if options.compile else ''}: {result['tokens']} tokens and {result['tiles']} "
          f"tiles a step, {result['parameters'] / 1e6:.1f} M parameters, warm-up {warm:.1f} s")
    print(f"{result['ms']:.1f} ms a step ({result['ms_min']:.1f} - {result['ms_max']:.1f}), "
          f"{result['tokens_per_second']:,.0f} tokens/s, {result['tflops']:.3f} TFLOP/s, {result['share']:.2f} of "
          + " and ".join(f"{kind} products at {rate:.2f} TFLOP/s" for kind, rate in peaks.items()))
    print("of that " + ", ".join(f"{name} {value:.1f} ms" for name, value in result["parts_ms"].items()))


if __name__ == "__main__":
    main()
