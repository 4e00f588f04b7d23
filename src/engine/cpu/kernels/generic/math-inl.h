// exp and what is made of it. Included inside an ISA namespace after its simd.h.

// exp(x) within 2 units in the last place for x <= 88; below -87.3 it gives 2^-126 at most.
inline Vec exp(const Vec& x) {
  const Vec clamped = max(min(x, set1(88.0f)), set1(-87.3f));
  const Vec n = round(mul(clamped, set1(1.44269504088896341f)));
  // ln 2 in two parts, so that n * ln 2 is exact to float32's last bit.
  Vec r = fma(n, set1(-0.693359375f), clamped);
  r = fma(n, set1(2.12194440e-4f), r);
  Vec p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(p, mul(r, r), add(r, set1(1.0f)));
  return scale_by_power(p, n);
}

// 2^x within 1 unit in the last place for x <= 0; exactly 1 for 0; below -126 it gives 2^-126.
inline Vec exp2(const Vec& x) {
  const Vec clamped = max(x, set1(-126.0f));
  const Vec n = round(clamped);
  const Vec r = sub(clamped, n);
  Vec p = set1(1.5594677825e-4f);
  p = fma(p, r, set1(1.3406643411e-3f));
  p = fma(p, r, set1(9.6176927909e-3f));
  p = fma(p, r, set1(5.5503103882e-2f));
  p = fma(p, r, set1(2.4022652209e-1f));
  p = fma(p, r, set1(6.9314724207e-1f));
  p = fma(p, r, set1(1.0f));
  return scale_by_power(p, n);
}

// x * sigmoid(x)
inline Vec silu(const Vec& x) { return div(x, add(set1(1.0f), exp(sub(zero(), x)))); }

// 0.5 x (1 + tanh(u)) = x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
inline Vec gelu_tanh(const Vec& x) {
  const Vec inner = mul(x, fma(mul(x, x), set1(0.044715f), set1(1.0f)));
  return div(x, add(set1(1.0f), exp(mul(inner, set1(-2.0f * 0.7978845608028654f)))));
}
