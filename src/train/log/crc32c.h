// CRC-32C (Castagnoli), as TFRecord files carry it. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vl2::train {

uint32_t crc32c(std::span<const std::byte> bytes);
// TFRecord's "masked" form: rotated and offset, so that a sum over data with sums inside stays meaningful.
uint32_t masked_crc32c(std::span<const std::byte> bytes);

}  // namespace vl2::train
