// KvBlocks against a model that searches lists: many random requests that share beginnings, complete their blocks one
// by one, and go away at any time.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <span>
#include <string>

#include "core/base/random.h"
#include "engine/runtime/kv_blocks.h"

namespace vl2 {
namespace {

// A block's content is the text up to its end, a letter a block.
BlockKey key_of(const std::string& text) { return sha256(std::as_bytes(std::span(text))); }

std::vector<BlockKey> keys_of(const std::string& text) {
  std::vector<BlockKey> keys;
  for (size_t i = 1; i <= text.size(); ++i) keys.push_back(key_of(text.substr(0, i)));
  return keys;
}

struct Model {
  struct Block {
    int users = 0;
    std::string name, content;  // content: what was computed there
  };
  std::vector<Block> blocks;
  std::vector<int32_t> remembered;  // longest ago in front

  int32_t at(const std::string& name) const {
    for (size_t b = 0; b < blocks.size(); ++b)
      if (blocks[b].name == name) return static_cast<int32_t>(b);
    return -1;
  }
  size_t known(const std::string& text) const {
    size_t n = 0;
    while (n < text.size() && at(text.substr(0, n + 1)) >= 0) ++n;
    return n;
  }
  int64_t num_used() const {
    return std::ranges::count_if(blocks, [](const Block& b) { return b.users > 0; });
  }
  int64_t num_free() const { return static_cast<int64_t>(blocks.size()) - num_used(); }

  void use_shared(int32_t block) {
    ++blocks[static_cast<size_t>(block)].users;
    std::erase(remembered, block);
  }
  // The pool chose these blocks together: they must be nobody's, in ascending order, and those to be forgotten first
  // where not enough are empty.
  void use_new(std::span<const int32_t> taken) {
    ASSERT_TRUE(std::ranges::is_sorted(taken));
    std::vector<int32_t> forgotten;
    for (const int32_t block : taken) {
      Block& b = blocks[static_cast<size_t>(block)];
      ASSERT_EQ(b.users, 0);
      if (!b.name.empty()) forgotten.push_back(block);
      b = {1, "", ""};
    }
    if (forgotten.empty()) return;
    ASSERT_TRUE(std::ranges::none_of(blocks, [](const Block& x) { return x.users == 0 && x.name.empty(); }))
        << "something was forgotten while there was room";
    const auto end = remembered.begin() + static_cast<std::ptrdiff_t>(forgotten.size());
    ASSERT_TRUE(std::is_permutation(forgotten.begin(), forgotten.end(), remembered.begin(), end))
        << "not those that were freed longest ago";
    remembered.erase(remembered.begin(), end);
  }
  void free(const std::vector<int32_t>& list) {
    for (size_t i = list.size(); i-- > 0;) {
      Block& b = blocks[static_cast<size_t>(list[i])];
      if (--b.users > 0) continue;
      if (!b.name.empty() && b.content == b.name) {
        remembered.push_back(list[i]);
      } else {
        b = {};
      }
    }
  }
};

struct Request {
  std::string text;
  std::vector<int32_t> blocks;
  size_t done = 0;  // blocks of the prompt
};

class AgainstAModel : public testing::TestWithParam<uint64_t> {
 protected:
  static constexpr int64_t kBlocks = 24;

  void admit(std::string text, int64_t answer) {
    const size_t known = model_.known(text);
    const std::vector<BlockKey> keys = keys_of(text);
    ASSERT_EQ(pool_.known(keys), static_cast<int64_t>(known));
    const std::span<const BlockKey> shared = std::span(keys).first(known);
    const auto own = static_cast<int64_t>(text.size() - known) + answer;
    int64_t revived = 0;
    for (size_t i = 0; i < known; ++i)
      revived += model_.blocks[static_cast<size_t>(model_.at(text.substr(0, i + 1)))].users == 0 ? 1 : 0;
    const bool fits = own + revived <= model_.num_free();
    ASSERT_EQ(pool_.fits(shared, own), fits);
    if (!fits) return;
    Request r{std::move(text), {}, 0};
    pool_.share(shared, r.blocks);
    for (size_t i = 0; i < known; ++i) {
      ASSERT_EQ(r.blocks[i], model_.at(r.text.substr(0, i + 1)));
      model_.use_shared(r.blocks[i]);
    }
    pool_.allocate(own, r.blocks);
    ASSERT_NO_FATAL_FAILURE(model_.use_new(std::span(r.blocks).subspan(known)));
    for (size_t i = known; i < r.text.size(); ++i) {
      pool_.name(r.blocks[i], keys[i]);
      if (model_.at(r.text.substr(0, i + 1)) < 0)
        model_.blocks[static_cast<size_t>(r.blocks[i])].name = r.text.substr(0, i + 1);
    }
    requests_.push_back(std::move(r));
  }

  void compute(Request& r) {
    if (r.done == r.text.size()) return;
    const int32_t block = r.blocks[r.done++];
    std::string& content = model_.blocks[static_cast<size_t>(block)].content;
    const std::string what = r.text.substr(0, r.done);
    ASSERT_TRUE(content.empty() || content == what) << "a block of two owners with different contents";
    content = what;
    pool_.complete(block);
  }

  void leave(size_t index) {
    pool_.free(requests_[index].blocks);
    model_.free(requests_[index].blocks);
    requests_.erase(requests_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  void compare() {
    ASSERT_EQ(pool_.num_used(), model_.num_used());
    ASSERT_EQ(pool_.num_free(), model_.num_free());
    ASSERT_EQ(pool_.num_remembered(), static_cast<int64_t>(model_.remembered.size()));
    std::map<int32_t, int> users;
    for (const Request& r : requests_)
      for (const int32_t block : r.blocks) ++users[block];
    for (int32_t b = 0; b < kBlocks; ++b) {
      const Model::Block& block = model_.blocks[static_cast<size_t>(b)];
      ASSERT_EQ(pool_.references(b), users[b]);
      ASSERT_EQ(pool_.is_complete(b), !block.content.empty());
      // Whatever is remembered can be reached.
      const bool remembered = block.users == 0 && !block.name.empty();
      ASSERT_TRUE(!remembered || model_.known(block.name) == block.name.size());
    }
  }

  KvBlocks pool_{kBlocks, 16};
  Model model_{std::vector<Model::Block>(kBlocks), {}};
  std::vector<Request> requests_;
};

TEST_P(AgainstAModel, NeverTwoContentsNoLeaksAndForgottenInOrder) {
  Random random(GetParam());
  int64_t shared = 0, forgotten = 0;
  for (int step = 0; step < 6000; ++step) {
    const int64_t choice = random.below(10);
    if (choice < 3) {
      std::string text;
      for (int64_t n = random.below(9); n > 0; --n) text += static_cast<char>('a' + random.below(random.below(3) + 1));
      const auto before = static_cast<int64_t>(model_.remembered.size());
      shared += static_cast<int64_t>(model_.known(text));
      ASSERT_NO_FATAL_FAILURE(admit(text, 1 + random.below(4)));
      forgotten += std::max<int64_t>(before - static_cast<int64_t>(model_.remembered.size()), 0);
    } else if (choice < 8 && !requests_.empty()) {
      ASSERT_NO_FATAL_FAILURE(
          compute(requests_[static_cast<size_t>(random.below(static_cast<int64_t>(requests_.size())))]));
    } else if (!requests_.empty()) {
      leave(static_cast<size_t>(random.below(static_cast<int64_t>(requests_.size()))));
    }
    ASSERT_NO_FATAL_FAILURE(compare()) << "step " << step;
  }
  EXPECT_GT(shared, 500);
  EXPECT_GT(forgotten, 500);
  while (!requests_.empty()) leave(0);
  compare();
  EXPECT_EQ(pool_.num_free(), kBlocks);
  pool_.forget_all();
  EXPECT_EQ(pool_.num_remembered(), 0);
  EXPECT_EQ(pool_.num_free(), kBlocks);
  std::vector<int32_t> all;
  pool_.allocate(kBlocks, all);
  std::ranges::sort(all);
  for (int32_t b = 0; b < kBlocks; ++b) EXPECT_EQ(all[static_cast<size_t>(b)], b);
}

INSTANTIATE_TEST_SUITE_P(Seeds, AgainstAModel, testing::Range<uint64_t>(1, 6));

TEST(KvBlocks, ForgettingAllLeavesWhatIsInUseAlone) {
  KvBlocks pool(4, 16);
  const std::vector<BlockKey> keys = keys_of("abc");
  std::vector<int32_t> held, gone;
  pool.allocate(1, held);
  pool.allocate(1, gone);
  pool.name(held[0], keys[0]);
  pool.name(gone[0], keys[1]);
  pool.complete(held[0]);
  pool.complete(gone[0]);
  pool.free(gone);
  EXPECT_EQ(pool.num_remembered(), 1);
  EXPECT_EQ(pool.known(keys), 2);
  pool.forget_all();
  EXPECT_EQ(pool.known(keys), 0);
  EXPECT_EQ(pool.num_used(), 1);
  pool.free(held);
  EXPECT_EQ(pool.num_remembered(), 0);
  EXPECT_EQ(pool.num_free(), 4);
}

}  // namespace
}  // namespace vl2
