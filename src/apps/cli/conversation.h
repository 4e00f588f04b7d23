// What was said in one `vl2 chat`, and the pictures it is about.
//
// Owns the pictures. One thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/image/image.h"
#include "core/processor/conversation.h"

namespace vl2::cli {

class Conversation {
 public:
  void set_system(std::string text) { system_ = std::move(text); }
  const std::string& system() const { return system_; }

  // Belongs to the next message.
  void attach(Image picture) { pictures_.push_back(std::move(picture)); }
  size_t num_attached() const;

  // A user's message, with placeholders for the attached pictures in front where it has too few. kInvalidArgument: it
  // has too many; nothing has changed then.
  void ask(const std::string& text);
  void answer(std::string_view text);
  // Takes the last question back, its answer too if it has one; its pictures are attached again. The question's text
  // as it was given; empty if there is none.
  std::string take_back();
  // Drops turns from the front, with their pictures.
  void forget(size_t turns, size_t pictures);
  void clear();

  bool empty() const { return turns_.empty(); }
  // For the processor: ends with the empty message of the assistant.
  std::vector<Message> messages() const;
  const std::vector<Image>& pictures() const { return pictures_; }  // of all turns, then the attached ones

 private:
  struct Turn {
    std::string typed;
    std::string question;  // with placeholders
    std::string answer;
    size_t first_picture = 0;
  };
  std::string system_;
  std::vector<Turn> turns_;
  std::vector<Image> pictures_;
  size_t num_sent_ = 0;  // pictures of the turns
};

}  // namespace vl2::cli
