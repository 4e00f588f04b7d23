#include "core/dataset/record_parser.h"

#include <gtest/gtest.h>

namespace vl2 {
namespace {

using Turns = std::vector<TrainingTurn>;

TrainingRecord parsed(std::string_view json, std::optional<RecordFormat> format = std::nullopt) {
  auto result = parse_record(json, "set.jsonl:3", "/data", format);
  if (const auto* bad = std::get_if<BadRecord>(&result)) {
    ADD_FAILURE() << json << ": " << bad->reason;
    return {};
  }
  return std::get<TrainingRecord>(std::move(result));
}

std::string refusal(std::string_view json, std::optional<RecordFormat> format = std::nullopt) {
  const auto result = parse_record(json, "set.jsonl:3", "/data", format);
  const auto* bad = std::get_if<BadRecord>(&result);
  if (bad == nullptr) return "accepted";
  EXPECT_EQ(bad->where, "set.jsonl:3");
  return bad->reason;
}

bool mentions(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

TEST(RecordParser, ReadsRegions) {
  const TrainingRecord record = std::get<TrainingRecord>(parse_record(
      R"({"messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "a"}], "image": "a.png",
          "regions": [[0, 1, 2, 3.5, 4, " red", " star"], [0, 5, 6, 7, 8, "x"]]})",
      "set.jsonl:1", "root"));
  EXPECT_EQ(record.regions,
            (std::vector<PictureRegion>{{0, 1, 2, 3.5, 4, " red", " star"}, {0, 5, 6, 7, 8, "x", "x"}}));
}

TEST(RecordParser, ReadsMessagesWithLossPicturesAndObjects) {
  const TrainingRecord record = parsed(R"({"id": 17, "task": "locate", "source": "made", "other": {"x": [1]},
    "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "<image>find <ref-object>"},
                 {"role": "assistant", "content": "<bbox>", "loss": true}, {"role": "user", "content": "q"},
                 {"role": "assistant", "content": "a", "loss": false}],
    "images": ["a/b.png"], "objects": {"ref": ["cat"], "bbox": [[1, 2.5, 3, 4]], "image_id": [0]}})");
  EXPECT_EQ(record.id, "17");
  EXPECT_EQ(record.task, "locate");
  EXPECT_EQ(record.source, "made");
  EXPECT_EQ(record.where, "set.jsonl:3");
  EXPECT_EQ(record.name(), "set.jsonl:3 (17)");
  EXPECT_FALSE(record.raw_text);
  EXPECT_EQ(record.images, std::vector<std::string>{"/data/a/b.png"});
  EXPECT_EQ(record.turns, (Turns{{"system", "s"},
                                 {"user", "<image>find <ref-object>"},
                                 {"assistant", "<bbox>", true},
                                 {"user", "q"},
                                 {"assistant", "a", false}}));
  ASSERT_TRUE(record.objects);
  EXPECT_EQ(record.objects->labels, std::vector<std::string>{"cat"});
  EXPECT_EQ(record.objects->boxes, (std::vector<RecordObjects::Box>{{1, 2.5, 3, 4, 0}}));
  EXPECT_EQ(record.objects->unit, RecordObjects::Unit::kPixels);
}

TEST(RecordParser, ReadsLlavaConversations) {
  const TrainingRecord one = parsed(R"({"id": "000033471", "image": "coco/1.jpg", "conversations": [
    {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A bus."}]})");
  EXPECT_EQ(one.images, std::vector<std::string>{"/data/coco/1.jpg"});
  EXPECT_EQ(one.turns, (Turns{{"user", "<image>\nWhat?"}, {"assistant", "A bus."}}));
  const TrainingRecord two = parsed(R"({"image": ["1.jpg", "/abs/2.jpg"], "conversations": [
    {"from": "system", "value": "s"}, {"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]})");
  EXPECT_EQ(two.images, (std::vector<std::string>{"/data/1.jpg", "/abs/2.jpg"}));
  EXPECT_EQ(two.turns.front().role, "system");
  EXPECT_TRUE(parsed(R"({"conversations": [{"from": "human", "value": "x"}], "image": null})").images.empty());
}

TEST(RecordParser, ReadsContentParts) {
  const TrainingRecord record = parsed(R"({"messages": [{"role": "user", "content": [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "one"},
    {"type": "image", "image": "2.png"}, {"type": "text", "text": "two"}]}, {"role": "assistant", "content": "a"}]})");
  EXPECT_EQ(record.turns.front().content, "<image>\none<image>\ntwo");
  EXPECT_EQ(record.images, (std::vector<std::string>{"data:image/png;base64,AAAA", "/data/2.png"}));
}

TEST(RecordParser, ReadsInstructions) {
  EXPECT_EQ(parsed(R"({"instruction": "Add.", "input": "1 2", "output": "3", "system": "s"})").turns,
            (Turns{{"system", "s"}, {"user", "Add.\n1 2"}, {"assistant", "3"}}));
  EXPECT_EQ(parsed(R"({"instruction": "Add.", "input": "", "output": "3", "history": [["q", "a"]]})").turns,
            (Turns{{"user", "q"}, {"assistant", "a"}, {"user", "Add."}, {"assistant", "3"}}));
  EXPECT_EQ(parsed(R"({"query": "q", "response": "r"})").turns, (Turns{{"user", "q"}, {"assistant", "r"}}));
}

TEST(RecordParser, ReadsPlainTextToBeLearntWhole) {
  const TrainingRecord record = parsed(R"({"text": "a <image> b", "images": ["1.png"]})");
  EXPECT_TRUE(record.raw_text);
  EXPECT_EQ(record.turns, (Turns{{"", "a <image> b"}}));
  EXPECT_EQ(record.images.size(), 1u);
}

TEST(RecordParser, ReadsOnlyTheFormatItIsGiven) {
  const char* both = R"({"text": "t", "instruction": "i", "output": "o"})";
  EXPECT_FALSE(parsed(both).raw_text);
  EXPECT_TRUE(parsed(both, RecordFormat::kText).raw_text);
  EXPECT_TRUE(mentions(refusal(both, RecordFormat::kMessages), "messages is missing"));
  for (const auto format :
       {RecordFormat::kMessages, RecordFormat::kShareGpt, RecordFormat::kInstruction, RecordFormat::kText})
    EXPECT_EQ(record_format(format_name(format)), format);
  EXPECT_EQ(record_format("csv"), std::nullopt);
}

TEST(RecordParser, SaysWhatIsWrongWithARecord) {
  const auto message = [](const std::string& more) {
    return R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])" + more + "}";
  };
  EXPECT_EQ(refusal(message("")), "accepted");
  const std::pair<std::string, const char*> cases[] = {
      {"[]", "expected an object"},
      {"7", "expected an object"},
      {"{}", "no record we know"},
      {"{\"messages\": []}", "the conversation is empty"},
      {"{\"messages\": {}}", "messages is an object, expected a list"},
      {"{\"messages\": [3]}", "messages[0] is a number, expected an object"},
      {R"({"messages": [{"role": "user"}]})", "messages[0].content is missing"},
      {R"({"messages": [{"role": "tool", "content": "x"}]})", "messages[0].role is \"tool\""},
      {R"({"messages": [{"role": "user", "content": "x", "loss": "no"}]})", "messages[0].loss is a string"},
      {R"({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]})", "turn 2 is a system"},
      {R"({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]})", "\"input_audio\""},
      {R"({"text": 3})", "text is a number, expected a string"},
      {R"({"text": "a", "text": "b"})", "the key \"text\" appears twice"},
      {R"({"instruction": "x"})", "output is missing"},
      {R"({"conversations": [{"from": "observation", "value": "x"}]})", "conversations[0].from"},
      {message(R"(, "images": 3)"), "images is a number"},
      {message(R"(, "images": [null])"), "images[0] is null"},
      {message(R"(, "images": [""])"), "expected a path"},
      {message(R"(, "images": [{"bytes": "x"}])"), "neither a path nor a url"},
      {message(R"(, "images": ["https://x/y.png"])"), "not fetched"},
      {message(R"(, "images": [], "image": "x.png")"), "both image and images"},
      {message(R"(, "videos": ["x.mp4"])"), "it has videos"},
      {message(R"(, "objects": {"bbox": [[1, 2, 3]]})"), "objects.bbox[0] is a list, expected a list of four"},
      {message(R"(, "image": "a.png", "regions": [[0, 1, 2, 3, 4]])"),
       "regions[0] is a list, expected a list: picture"},
      {message(R"(, "image": "a.png", "regions": [[0, 1, 2, 3, 4, 5]])"), "regions[0] has a label that is a number"},
      {message(R"(, "image": "a.png", "regions": [[1, 1, 2, 3, 4, "a"]])"),
       "regions[0] is of picture 1, expected 0 to 0"},
      {message(R"(, "image": "a.png", "regions": [[0.5, 1, 2, 3, 4, "a"]])"), "is of picture 0.5"},
      {message(R"(, "image": "a.png", "regions": {"a": 1})"), "regions is an object, expected a list"},
      {message(R"(, "objects": {"bbox": [[1, 2, 3, "4"]]})"), "objects.bbox[0] is a string, expected a number"},
      {message(R"(, "objects": {"bbox": [[1, 2, 3, 4]], "bbox_type": "xywh"})"), "objects.bbox_type is \"xywh\""},
      {message(R"(, "objects": {"bbox": [[1, 2, 3, 4]], "image_id": [0, 1]})"), "2 entries for 1 boxes"},
      {message(R"(, "objects": {"bbox": [[1, 2, 3, 4]], "image_id": [-1]})"), "objects.image_id[0]"},
  };
  for (const auto& [json, reason] : cases)
    EXPECT_TRUE(mentions(refusal(json), reason)) << json << ": " << refusal(json);
}

TEST(RecordParser, HostileJsonIsABadRecord) {
  const auto text = [](const std::string& value) { return "{\"text\": " + value + "}"; };
  std::string deep(100000, '['), nested = "1";
  for (int i = 0; i < 70; ++i) nested = "[" + nested + "]";
  std::string lists = R"({"text": "x", "images": [)";
  for (int i = 0; i < 2000; ++i) lists += i == 0 ? "\"a\"" : ",\"a\"";
  const std::string cases[] = {"",
                               " ",
                               "{",
                               "nul",
                               deep,
                               text(deep),
                               R"({"text": "x", "extra": )" + nested + "}",
                               text("\"\xff\xfe\""),
                               text("\"\xc0\xaf\""),
                               text("\"\\ud800\""),
                               text("\"\x01\""),
                               text("\"open"),
                               text("\"a\"} {\"text\": \"b\""),
                               R"({"text": "x", "id": 1e999})",
                               R"({"text": "x", "id": 123456789012345678901234567890})",
                               R"({"text": "x", "id": 0123})",
                               R"({"text": "x", "id": NaN})",
                               R"({"text": "x", "id": [1]})",
                               lists + "]}"};
  for (const std::string& json : cases) EXPECT_NE(refusal(json), "accepted") << json.substr(0, 60);
  EXPECT_EQ(refusal(R"({"text": "\u0000 \ud83d\ude00"})"), "accepted");
}

// Cut anywhere, a record is refused; with a byte changed anywhere, it is read or refused, and nothing else happens.
TEST(RecordParser, SurvivesCutAndChangedBytes) {
  const std::string whole =
      R"({"id": 1, "messages": [{"role": "user", "content": [{"type": "image", "image": "1.png"}]}, )"
      R"({"role": "assistant", "content": "\u00e9", "loss": 1}], "objects": {"bbox": [[1, 2, 3.5e0, 4]]}})";
  ASSERT_EQ(refusal(whole), "accepted");
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_NE(refusal(whole.substr(0, n)), "accepted") << n;
  for (size_t n = 0; n < whole.size(); ++n)
    for (const char c : {'"', '{', '[', ']', '}', '\\', ',', '\0', '\xff', '9'}) {
      std::string changed = whole;
      changed[n] = c;
      EXPECT_FALSE(refusal(changed).empty());
    }
}

}  // namespace
}  // namespace vl2
