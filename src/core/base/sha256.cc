#include "core/base/sha256.h"

#include <openssl/evp.h>

#include "core/base/error.h"

namespace vl2 {

Digest sha256(std::span<const std::byte> bytes) {
  Digest digest;
  unsigned int size = 0;
  auto* out = reinterpret_cast<unsigned char*>(digest.bytes.data());
  VL2_CHECK(EVP_Digest(bytes.data(), bytes.size(), out, &size, EVP_sha256(), nullptr) == 1 &&
            size == digest.bytes.size());
  return digest;
}

}  // namespace vl2
