#include "apps/server/request_log.h"

#include <sys/stat.h>

#include <regex>
#include <thread>

#include "apps/server/log_file.h"
#include "apps/server/server_test.h"
#include "core/base/temp_folder.h"

namespace vl2::server {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

// What a server logs, as text and parsed.
class LogWatch {
 public:
  explicit LogWatch(ServerOptions& options) {
    options.log = [this](std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
    };
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  // Lines come after their replies.
  json wait_for(size_t index) {
    while (lines().size() <= index) std::this_thread::yield();
    return json::parse(lines()[index]);
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

json short_chat(const json& content) {
  json body = chat(content);
  body["max_tokens"] = 3;
  body["ignore_eos"] = true;
  return body;
}

TEST(RequestLog, SaysEverythingButWhatWasAsked) {
  ServerOptions options;
  options.keys = {"alice:the key"};
  LogWatch log(options);
  TestServer server(options);
  const GoldenCase golden = golden_cases().front();
  json body = golden_chat(golden);
  body["max_tokens"] = 3;
  body["ignore_eos"] = true;
  TestClient client(server.port());
  const TestClient::Headers headers = {{"Authorization", "Bearer the key"}, {"x-request-id", "mine"}};
  const std::string text = TestClient::text_of("POST", kChat, body.dump(), headers);
  client.send(text);
  const HttpReply reply = client.read();
  ASSERT_EQ(reply.status, 200);
  const json line = log.wait_for(0);
  EXPECT_TRUE(
      std::regex_match(line.at("time").get<std::string>(), std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)")))
      << line;
  EXPECT_EQ(line.at("event"), "request");
  EXPECT_EQ(line.at("id"), "mine");
  EXPECT_EQ(line.at("method"), "POST");
  EXPECT_EQ(line.at("route"), "/chat/completions");
  EXPECT_EQ(line.at("status"), 200);
  EXPECT_EQ(line.at("peer"), "127.0.0.1");
  EXPECT_EQ(line.at("key"), "alice");
  EXPECT_EQ(line.at("bytes_in"), text.size());
  EXPECT_GT(line.at("bytes_out"), reply.body.size());
  EXPECT_LT(line.at("bytes_out"), reply.body.size() + 1000);
  EXPECT_EQ(line.at("answers"), 1);
  const json usage = reply.parsed().at("usage");
  EXPECT_EQ(line.at("prompt_tokens"), usage.at("prompt_tokens"));
  EXPECT_EQ(line.at("completion_tokens"), 3);
  EXPECT_EQ(line.at("image_tokens"), usage.at("prompt_tokens_details").at("image_tokens"));
  EXPECT_GT(line.at("tiles"), 0);
  EXPECT_EQ(line.at("cached_tokens"), 0);
  EXPECT_EQ(line.at("finish"), "length");
  for (const char* name :
       {"ms", "queue_ms", "vision_ms", "prefill_ms", "first_token_ms", "decode_ms", "longest_pause_ms"})
    EXPECT_GE(line.at(name), 0) << name;
  EXPECT_NEAR(
      line.at("first_token_ms").get<double>(),
      line.at("queue_ms").get<double>() + line.at("vision_ms").get<double>() + line.at("prefill_ms").get<double>(),
      0.01);
  EXPECT_EQ(line.dump().find("the key"), std::string::npos);
  EXPECT_EQ(line.dump().find(golden.question), std::string::npos);
}

TEST(RequestLog, BytesAreThoseOfEachRequestOfAConnection) {
  ServerOptions options;
  LogWatch log(options);
  TestServer server(options, false);
  TestClient client(server.port());
  const std::string first = TestClient::text_of("GET", "/health", "", {});
  const std::string second = TestClient::text_of("POST", "/tokenize", std::string(100'000, ' '), {});
  client.send(first + second);  // at once
  EXPECT_EQ(client.read().status, 503);
  EXPECT_EQ(client.read().status, 503);
  EXPECT_EQ(log.wait_for(0).at("bytes_in"), first.size());
  // There is no model yet, so the body is not read.
  EXPECT_EQ(log.wait_for(1).at("bytes_in"), second.size() - 100'000);
}

TEST(RequestLog, NobodyWritesALineOrAnEscapeThroughIt) {
  ServerOptions options;
  options.log_prompts = true;
  LogWatch log(options);
  TestServer server(options);
  const std::string evil = "a\n{\"event\":\"request\",\"id\":\"forged\"}\r\n\x1b[31m\xc2\x9b\xe2\x80\xa8\"quoted\"";
  ASSERT_EQ(server.post(kChat, short_chat(evil), {{"x-request-id", "mine\tand more"}}).status, 200);
  server.get("/%0a%7b%7d%1b[2J");
  TestClient broken(server.port());
  broken.send("GET /\x01\x1b[31m HTTP/1.1\r\nHost: \"\x1b\r\n\r\n");
  broken.read();
  const json line = log.wait_for(0);
  log.wait_for(2);
  EXPECT_NE(line.at("prompts").at(0).get<std::string>().find(evil), std::string::npos);
  EXPECT_TRUE(is_request_id(line.at("id").get<std::string>()));
  for (const std::string& text : log.lines()) {
    EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; })) << text;
    EXPECT_NO_THROW(json::parse(text)) << text;
  }
  EXPECT_EQ(log.lines().size(), 3u);
}

TEST(RequestLog, PromptsAndAnswersAreInItIfThatIsAskedFor) {
  ServerOptions options;
  options.log_prompts = true;
  LogWatch log(options);
  TestServer server(options);
  const GoldenCase golden = golden_cases().front();
  json body = golden_chat(golden);
  body["n"] = 2;
  const HttpReply reply = server.post(kChat, body);
  ASSERT_EQ(reply.status, 200);
  const json line = log.wait_for(0);
  ASSERT_EQ(line.at("prompts").size(), 1u);
  const std::string prompt = line.at("prompts").at(0);
  EXPECT_NE(prompt.find("<image>\n" + golden.question), std::string::npos) << prompt;
  EXPECT_EQ(prompt.find("<image>"), prompt.rfind("<image>")) << prompt;
  ASSERT_EQ(line.at("texts").size(), 2u);
  EXPECT_EQ(line.at("texts").at(0), reply.parsed().at("choices").at(0).at("message").at("content"));
  // What a stream said before its client left.
  json endless = short_chat("Tell me everything");
  endless["max_tokens"] = 4000;
  endless["stream"] = true;
  {
    TestClient client(server.port());
    client.send(TestClient::text_of("POST", kChat, endless.dump(), {}));
    ASSERT_TRUE(client.wait_for("\"delta\":{\"content\":"));
  }
  const json left = log.wait_for(1);
  EXPECT_EQ(left.at("finish"), "client_gone");
  EXPECT_FALSE(left.at("texts").at(0).get<std::string>().empty());
}

TEST(RequestLog, TimesAreUtcWithMilliseconds) {
  using std::chrono::milliseconds;
  using Time = std::chrono::system_clock::time_point;
  EXPECT_EQ(format_time(Time(milliseconds(0))), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(format_time(Time(milliseconds(1'709'210'096'007))), "2024-02-29T12:34:56.007Z");
  EXPECT_EQ(format_time(Time(milliseconds(-1))), "1969-12-31T23:59:59.999Z");
}

TEST(RequestLog, EventsHaveATimeAndAName) {
  const json line = json::parse(event_line("ready", {{"model", "a\nb"}}));
  EXPECT_EQ(line.at("event"), "ready");
  EXPECT_EQ(line.at("model"), "a\nb");
  EXPECT_EQ(line.size(), 3u);
}

TEST(LogFile, IsAppendedToAndOpenedAnew) {
  const TempFolder folder;
  const auto path = folder / "log", moved = folder / "log.1";
  write_file_atomic(path, "before\n");
  LogFile file(path);
  file.write("one");
  std::filesystem::rename(path, moved);
  file.write("two");  // follows the file, not its name
  file.reopen();
  file.write("three");
  EXPECT_EQ(read_file(moved), "before\none\ntwo\n");
  EXPECT_EQ(read_file(path), "three\n");
  struct stat status = {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07u, 0u);
  EXPECT_EQ(file.lost(), 0);
}

TEST(LogFile, KeepsTheOldOneWhereTheNewOneCannotBe) {
  const TempFolder folder;
  const auto below = folder / "logs";
  std::filesystem::create_directory(below);
  LogFile file(below / "log");
  std::filesystem::rename(below, folder / "elsewhere");
  EXPECT_THROW(file.reopen(), Error);
  file.write("still");
  EXPECT_EQ(read_file(folder / "elsewhere/log"), "still\n");
  EXPECT_THROW(LogFile(folder / "no/such/folder"), Error);
}

TEST(LogFile, LinesOfManyThreadsStayWhole) {
  const TempFolder folder;
  LogFile file(folder / "log");
  std::vector<std::thread> threads;
  for (char c = 'a'; c < 'e'; ++c)
    threads.emplace_back([&file, c] {
      for (int i = 0; i < 200; ++i) file.write(std::string(3000, c));
    });
  for (std::thread& thread : threads) thread.join();
  const std::string text = read_file(folder / "log");
  ASSERT_EQ(text.size(), size_t{4 * 200 * 3001});
  for (size_t at = 0; at < text.size(); at += 3001)
    ASSERT_EQ(text.substr(at, 3001), std::string(3000, text[at]) + "\n");
}

TEST(LogFile, CountsWhatADiskDoesNotTake) {
  LogFile file("/dev/full");
  file.write("gone");
  EXPECT_EQ(file.lost(), 1);
}

}  // namespace
}  // namespace vl2::server
