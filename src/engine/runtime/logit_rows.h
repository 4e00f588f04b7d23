// Passes over rows as long as the vocabulary, several for every token of an answer.
//
// Plain products and sums in a fixed order: the same bits on every machine and with every instruction set, so that a
// seed draws the same answer. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vl2 {

// No NaN and no +inf; -inf is a token that cannot be chosen.
bool all_usable(std::span<const float> logits);

// -inf of nothing. No NaN among them.
double largest(std::span<const float> x);
double largest(std::span<const double> x);

double sum(std::span<const double> x);

// e^x for x <= 0, in place: within 2^-51 of it, and 0 below -708.
void exp_row(std::span<double> x);

// Of e^(x - shift), shift >= x.
double sum_exp(std::span<const float> x, double shift);

// The same for one instruction set each, the weakest first: those that this processor has.
struct LogitKernels {
  bool (*all_usable)(const float* x, size_t n);
  float (*largest_float)(const float* x, size_t n);
  double (*largest_double)(const double* x, size_t n);
  double (*sum)(const double* x, size_t n);
  void (*exp_row)(double* x, size_t n);
  double (*sum_exp)(const float* x, size_t n, double shift);
};
std::span<const LogitKernels* const> logit_kernels();

}  // namespace vl2
