// One record of a training set, whatever file it came from: a conversation with pictures, or text to be learnt whole.
//
// Plain data, not checked against the pictures or the tokenizer yet: any thread. docs/training_data.md has the files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace vl2 {

struct TrainingTurn {
  std::string role;                         // "user", "assistant", or "system" (first only)
  std::string content;                      // "<image>" stands for the next picture of the record; raw text: all of it
  std::optional<bool> loss = std::nullopt;  // whether it is learnt; absent: as its role and the stage say
  bool operator==(const TrainingTurn&) const = default;
};

// What the placeholders "<ref-object>" and "<bbox>" of the turns stand for, in order. A box is x1, y1, x2, y2.
struct RecordObjects {
  enum class Unit { kPixels, kFraction };  // kFraction: 0 to 1 of the picture's sides
  struct Box {
    double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
    int64_t image = 0;  // which picture of the record it lies in, from 0
    bool operator==(const Box&) const = default;
  };
  std::vector<std::string> labels;
  std::vector<Box> boxes;
  Unit unit = Unit::kPixels;
  bool operator==(const RecordObjects&) const = default;
};

// A part of a picture and what it shows, for learning at the picture's own tokens.
struct PictureRegion {
  int64_t image = 0;                      // which picture of the record, from 0
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;  // 0 to 999 of the picture's sides
  std::string global_label, local_label;  // for the tokens of the global view, and of the tiles
  bool operator==(const PictureRegion&) const = default;
};

struct TrainingRecord {
  std::string id;  // empty where the file gives none
  std::vector<TrainingTurn> turns;
  std::vector<std::string> images;  // paths, already joined to their root, or data: URIs
  std::optional<RecordObjects> objects;
  std::vector<PictureRegion> regions;  // later ones lie in front of earlier ones
  std::string task, source;            // empty where the file does not say
  std::string where;                   // "captions.jsonl:17", for messages
  bool raw_text = false;               // one turn without a role: no conversation, every token is learnt

  // For messages: where, and the id if there is one.
  std::string name() const { return id.empty() ? where : where + " (" + id + ")"; }
  bool operator==(const TrainingRecord&) const = default;
};

// A record that cannot be used, and why. What becomes of it is the caller's policy.
struct BadRecord {
  std::string where;
  std::string reason;
};

}  // namespace vl2
