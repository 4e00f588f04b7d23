#include "core/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/temp_folder.h"

namespace vl2 {
namespace {

std::string file_bytes(const std::string& header, size_t data_bytes, uint64_t header_size) {
  std::string bytes(reinterpret_cast<const char*>(&header_size), sizeof header_size);
  return bytes + header + std::string(data_bytes, '\1');
}

class Safetensors : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& bytes) {
    const std::filesystem::path path = folder_ / "x.safetensors";
    std::ofstream(path, std::ios::binary) << bytes;  // thousands of these: no fsync
    return path;
  }
  SafetensorsFile open(const std::string& header, size_t data_bytes) {
    return SafetensorsFile(write(file_bytes(header, data_bytes, header.size())));
  }
  // The error a file gives, which must name the file, or "" when it opens.
  std::string error_of_bytes(const std::string& bytes, ErrorCode code = ErrorCode::kCorrupt) {
    const std::filesystem::path path = write(bytes);
    try {
      SafetensorsFile file(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_EQ(std::string(error.what()).find(path.string()), 0u) << error.what();
      EXPECT_NE(std::string(error.what()).find("expected"), std::string::npos) << error.what();
      return error.what();
    }
    return "";
  }
  std::string error_of(const std::string& header, size_t data_bytes, ErrorCode code = ErrorCode::kCorrupt) {
    return error_of_bytes(file_bytes(header, data_bytes, header.size()), code);
  }

  TempFolder folder_;
};

#define EXPECT_ERROR(error, text) EXPECT_NE((error).find(text), std::string::npos) << "error: " << (error)

TEST_F(Safetensors, WhatIsWrittenReadsBackTheSame) {
  const std::vector<float> floats = {1.0f, -2.5f, 3.25f, 0.0f, 5.0f, -6.0f};
  const std::vector<int64_t> integers = {-1, int64_t{1} << 40};
  const std::vector<uint8_t> bytes = {1, 2, 3};
  const auto view = [](const auto& v, DType dtype, Shape shape) {
    return TensorView{reinterpret_cast<const std::byte*>(v.data()), dtype, std::move(shape)};
  };
  const std::vector<NamedTensor> tensors = {{"z.last", view(integers, DType::kI64, {2})},
                                            {"matrix", view(floats, DType::kF32, {2, 3})},
                                            {"scalar", view(floats, DType::kF32, {})},
                                            {"empty", view(floats, DType::kF32, {0, 7})},
                                            {"umlaut \"\xc3\xa4\"", view(bytes, DType::kU8, {3})}};
  write_safetensors(folder_ / "a.safetensors", tensors, {{"format", "pt"}, {"note", "x"}});
  const SafetensorsFile file(folder_ / "a.safetensors");
  ASSERT_EQ(file.tensors().size(), tensors.size());
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "x"}}));
  for (const NamedTensor& t : tensors) {
    const TensorView& read = file.at(t.name);
    EXPECT_EQ(read.dtype, t.tensor.dtype);
    EXPECT_EQ(read.shape, t.tensor.shape);
    EXPECT_EQ(std::memcmp(read.data, t.tensor.data, t.tensor.num_bytes()), 0) << t.name;
  }
  EXPECT_EQ((file.at("z.last").data - file.file().bytes().data()) % 64, 0) << "data starts at a multiple of 64";
  EXPECT_LT(file.at("z.last").data, file.at("matrix").data) << "tensors keep their order";
  EXPECT_EQ(file.find("nothing"), nullptr);
  EXPECT_THROW(file.at("nothing"), Error);
}

TEST_F(Safetensors, TheStreamingWriterWritesTheSameFile) {
  const std::vector<float> a = {1, 2, 3};
  const std::vector<float> b = {4, 5};
  const auto data = [](const std::vector<float>& v) { return reinterpret_cast<const std::byte*>(v.data()); };
  const std::vector<NamedTensor> tensors = {{"b", {data(a), DType::kF32, {3}}}, {"a", {data(b), DType::kF32, {2, 1}}}};
  write_safetensors(folder_ / "whole", tensors);
  const std::vector<TensorHeader> headers = {{"b", DType::kF32, {3}}, {"a", DType::kF32, {2, 1}}};
  write_safetensors(folder_ / "streamed", headers, [&](const TensorHeader& header, std::span<std::byte> bytes) {
    std::memcpy(bytes.data(), header.name == "b" ? data(a) : data(b), bytes.size());
  });
  EXPECT_EQ(read_file(folder_ / "whole"), read_file(folder_ / "streamed"));
}

TEST_F(Safetensors, TheWriterRefusesWhatItCouldNotRead) {
  const FillTensor nothing = [](const TensorHeader&, std::span<std::byte>) {};
  const auto refuse = [&](const std::vector<TensorHeader>& headers) {
    EXPECT_THROW(write_safetensors(folder_ / "bad", headers, nothing), Error);
    EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  };
  refuse({{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}});
  refuse({{"__metadata__", DType::kF32, {1}}});
  refuse({{"\xff", DType::kF32, {1}}});
  refuse({{"a", DType::kF32, {-1}}});
  refuse({{"a", DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}}});
}

TEST_F(Safetensors, AFailedWriteLeavesTheOldFile) {
  write_file_atomic(folder_ / "x", "old");
  const std::vector<TensorHeader> headers = {{"a", DType::kF32, {4}}};
  EXPECT_THROW(write_safetensors(folder_ / "x", headers,
                                 [](const TensorHeader&, std::span<std::byte>) { throw std::runtime_error("stop"); }),
               std::runtime_error);
  EXPECT_EQ(read_file(folder_ / "x"), "old");
}

TEST_F(Safetensors, UnalignedTensorsAreCopiedToAlignedMemory) {
  // 3 bytes of U8 put the float at an odd address, whatever the header's length.
  std::string header = R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                       R"("b":{"dtype":"F64","shape":[2],"data_offsets":[3,19]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  std::string bytes = file_bytes(header, 3, header.size());
  const double values[2] = {1.5, -2.0};
  bytes.append(reinterpret_cast<const char*>(values), sizeof values);
  const SafetensorsFile file(write(bytes));
  const TensorView& b = file.at("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data) % alignof(double), 0u);
  EXPECT_EQ(b.as<double>()[0], 1.5);
  EXPECT_EQ(b.as<double>()[1], -2.0);
  file.release(b);  // lies in no mapping: must stay as it is
  file.release(file.at("a"));
  EXPECT_EQ(b.as<double>()[1], -2.0);
  EXPECT_EQ(file.at("a").as<uint8_t>()[0], 1);
}

TEST_F(Safetensors, TruncatedFilesAreRefusedAtEveryLength) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})";
  const std::string whole = file_bytes(header, 16, header.size());
  EXPECT_EQ(error_of_bytes(whole), "");
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_NE(error_of_bytes(whole.substr(0, n)), "") << n;
  EXPECT_ERROR(error_of_bytes(whole + "x"), "end at byte 16");
}

TEST_F(Safetensors, OversizedHeadersAreRefusedBeforeTheyAreRead) {
  EXPECT_ERROR(error_of_bytes(file_bytes("{}", 0, UINT64_MAX)), "a header of 18446744073709551615 bytes");
  EXPECT_ERROR(error_of_bytes(file_bytes("{}", 0, 3)), "a header of 3 bytes");
  const std::filesystem::path path = write(file_bytes("{}", 0, uint64_t{65} << 20));
  std::filesystem::resize_file(path, uint64_t{1} << 30);  // sparse: the size alone must not let it through
  EXPECT_THROW(SafetensorsFile{path}, Error);
}

TEST_F(Safetensors, HeadersThatAreNoObjectAreRefused) {
  for (const char* header : {"", "[]", "3", "{", "{\"a\":", "{\"a\":1}", "{\"a\":[]}", "{} {}", "\xff\xff", "null",
                             R"({"__metadata__":3})", R"({"__metadata__":{"a":3}})",
                             R"({"__metadata__":{"a":"1","a":"2"}})", R"({"__metadata__":{},"__metadata__":{}})"})
    EXPECT_NE(error_of(header, 0), "") << header;
  EXPECT_NE(error_of(std::string(5000, '['), 0), "");
  EXPECT_EQ(error_of("{}", 0), "");
  EXPECT_EQ(error_of("{}      ", 0), "");
}

TEST_F(Safetensors, TensorsThatOverlapOrLeaveHolesAreRefused) {
  const auto two = [](int b1, int e1, int b2, int e2) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                       R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                       e1 - b1, b1, e1, e2 - b2, b2, e2);
  };
  EXPECT_EQ(error_of(two(0, 8, 8, 16), 16), "");
  EXPECT_EQ(error_of(two(8, 16, 0, 8), 16), "");
  EXPECT_EQ(error_of(two(8, 8, 0, 8), 8), "") << "an empty tensor takes no place";
  EXPECT_ERROR(error_of(two(0, 8, 4, 12), 12), "overlaps");
  EXPECT_ERROR(error_of(two(0, 8, 0, 8), 8), "overlaps");
  EXPECT_ERROR(error_of(two(0, 4, 8, 12), 12), "hole");
  EXPECT_ERROR(error_of(two(4, 8, 8, 12), 12), "hole");
  EXPECT_ERROR(error_of(two(0, 4, 4, 8), 12), "end at byte 8");
}

TEST_F(Safetensors, DuplicateNamesAreRefused) {
  EXPECT_ERROR(error_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                        R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                        2),
               "tensor \"a\" appears twice");
  EXPECT_ERROR(error_of(R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1), "shape twice");
}

TEST_F(Safetensors, WrongDtypesShapesAndOffsetsAreRefused) {
  const auto one = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return "{\"a\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  EXPECT_EQ(error_of(one("\"F32\"", "[2,2]", "[0,16]"), 16), "");
  EXPECT_ERROR(error_of(one("\"F8_E4M3\"", "[16]", "[0,16]"), 16, ErrorCode::kUnsupported), "F8_E4M3");
  EXPECT_ERROR(error_of(one("3", "[16]", "[0,16]"), 16), "dtype");
  EXPECT_ERROR(error_of(one("\"F16\"", "[2,2]", "[0,16]"), 16), "16 bytes of data, expected 8 for F16 [2, 2]");
  for (const char* shape :
       {"[-4]", "[4.0]", "4", "[\"4\"]", "[[4]]", "{}", "null", "[18446744073709551615]", "[9223372036854775807,2]",
        "[4294967296,4294967296]", "[2147483648,2147483648,4]", "[0,9223372036854775807,9223372036854775807]", "[3]",
        "[5]", "[]", "[4,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]"})
    EXPECT_NE(error_of(one("\"F32\"", shape, "[0,16]"), 16), "") << shape;
  EXPECT_NE(error_of(one("\"F32\"", "[0,9223372036854775807,9223372036854775807]", "[0,0]"), 0), "");
  for (const char* offsets : {"[16,0]", "[0,17]", "[0]", "[0,8,16]", "[-16,0]", "[0.0,16]", "16",
                              "[0,18446744073709551615]", "[18446744073709551615,15]", "[null,16]"})
    EXPECT_NE(error_of(one("\"F32\"", "[4]", offsets), 16), "") << offsets;
  EXPECT_ERROR(error_of(R"({"a":{"dtype":"F32","shape":[4]}})", 16), "incomplete");
  EXPECT_ERROR(error_of(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1}})", 16), "field \"x\"");
}

TEST_F(Safetensors, HostileNamesStayPrintable) {
  EXPECT_ERROR(error_of("{\"a\\u0000\\n\":{}}", 0), "tensor \"a??\"");
  const std::string error = error_of("{\"" + std::string(100000, 'x') + "\":{}}", 0);
  EXPECT_LT(error.size(), 600u);
}

TEST_F(Safetensors, RandomDamageNeverCrashes) {
  std::string header = R"({"__metadata__":{"format":"pt"},"a.b":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                       R"("c":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}})";
  const std::string whole = file_bytes(header, 22, header.size());
  Random random(7);
  int opened = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = whole;
    for (int64_t i = random.below(3); i >= 0; --i)
      bytes[static_cast<size_t>(random.below(static_cast<int64_t>(bytes.size())))] =
          static_cast<char>(random.below(256));
    try {
      const SafetensorsFile file(write(bytes));
      for (const auto& [name, tensor] : file.tensors()) {
        if (tensor.dtype != DType::kF32) continue;
        EXPECT_EQ(to_floats(tensor).size(), static_cast<size_t>(tensor.size()));
      }
      ++opened;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(opened, 100) << "damage within the data is no damage to the format";
}

TEST_F(Safetensors, AMissingFileIsNotFound) {
  try {
    SafetensorsFile file(folder_ / "none");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  }
}

}  // namespace
}  // namespace vl2
