// vl2 serve as a service manager runs it: readiness, signals, logs, configuration.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

constexpr int kPatienceMs = 120'000;

// A connection that reads to its end; the server closes it behind the reply.
class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void post(const std::string& path, const std::string& body, const std::string& headers = "") {
    const std::string text = "POST " + path + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n" + headers +
                             "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    EXPECT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  void get(const std::string& path) {
    const std::string text = "GET " + path + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    EXPECT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // Everything until `text` came, or the end.
  bool sees(const std::string& text) {
    while (reply_.find(text) == std::string::npos)
      if (!more()) return false;
    return true;
  }
  const std::string& all() {
    while (more()) {
    }
    return reply_;
  }

 private:
  bool more() {
    pollfd entry{socket_, POLLIN, 0};
    std::array<char, 16384> bytes;
    if (::poll(&entry, 1, kPatienceMs) <= 0) return false;
    const ssize_t count = ::recv(socket_, bytes.data(), bytes.size(), 0);
    if (count <= 0) return false;
    reply_.append(bytes.data(), static_cast<size_t>(count));
    return true;
  }

  int socket_;
  bool connected_ = false;
  std::string reply_;
};

// The program with a service manager's socket and a log of its own.
class Service {
 public:
  explicit Service(std::vector<std::string> more) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path = (folder / "notify").string();
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    manager_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(manager_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    std::vector<std::string> words = {program().string(), "serve", "--port", "0", "--log-file", log_path().string()};
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    child_ = ::fork();
    if (child_ == 0) {
      name_test_model();
      ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
      ::alarm(600);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
  }
  ~Service() {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    ::close(manager_);
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  std::filesystem::path log_path() const { return folder / "log"; }
  // The next datagram.
  std::string notified() const {
    pollfd entry{manager_, POLLIN, 0};
    std::array<char, 512> bytes;
    if (::poll(&entry, 1, kPatienceMs) <= 0) return "nothing";
    const ssize_t count = ::recv(manager_, bytes.data(), bytes.size(), 0);
    return std::string(bytes.data(), static_cast<size_t>(std::max<ssize_t>(count, 0)));
  }
  void signal(int number) const { ::kill(child_, number); }
  int exit_code() {
    int status = 0;
    ::waitpid(std::exchange(child_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  static std::vector<json> lines_of(const std::filesystem::path& path) {
    std::vector<json> lines;
    std::string text = std::filesystem::exists(path) ? read_file(path) : "";
    for (size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
      lines.push_back(json::parse(text.substr(at, end - at)));
    return lines;
  }
  // Waits for it in the log.
  json event(const std::string& name) const {
    for (int i = 0; i < kPatienceMs / 10; ++i) {
      for (const json& line : lines_of(log_path()))
        if (line.at("event") == name) return line;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "no event " << name;
    return json::object();
  }
  int port() const { return event("start").at("port"); }

  TempFolder folder;

 private:
  pid_t child_ = -1;
  int manager_ = -1;
};

constexpr const char* kChat = "/v1/chat/completions";

json question(int64_t tokens, bool stream) {
  return {{"messages", {{{"role", "user"}, {"content", "Tell me everything"}}}},
          {"max_tokens", tokens},
          {"ignore_eos", true},
          {"stream", stream},
          {"stream_options", {{"include_usage", true}}}};
}

TEST(Serve, SigtermFinishesWhatRunsUnderLoadAndTakesNothingNew) {
  Service service({"--parallel", "5", "--drain-timeout", "300"});
  ASSERT_EQ(service.notified().substr(0, 8), "READY=1\n");
  const int port = service.port();
  Client whole(port), late(port);
  whole.post(kChat, question(400, false).dump());
  std::vector<std::unique_ptr<Client>> streams;
  for (int i = 0; i < 6; ++i) {  // five at a time, two wait
    streams.push_back(std::make_unique<Client>(port));
    streams.back()->post(kChat, question(400, true).dump());
  }
  const auto under_way = [&] {
    Client client(port);
    client.get("/metrics");
    const std::string& text = client.all();
    return text.find("\nvl2_requests_running 5\n") != std::string::npos &&
           text.find("\nvl2_requests_waiting 2\n") != std::string::npos;
  };
  while (!under_way()) std::this_thread::yield();
  service.signal(SIGTERM);
  EXPECT_EQ(service.notified().substr(0, 11), "STOPPING=1\n");
  service.event("drain");
  while (Client(port).connected()) std::this_thread::yield();  // the door is closed
  EXPECT_EQ(late.all(), "");                                   // it had not asked
  for (const auto& stream : streams) {
    const std::string& text = stream->all();
    EXPECT_TRUE(text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"))
        << text.substr(text.size() - std::min<size_t>(text.size(), 500));
    EXPECT_NE(text.find("\"finish_reason\":\"length\""), std::string::npos);
    EXPECT_NE(text.find("\"completion_tokens\":400"), std::string::npos);
  }
  const std::string& reply = whole.all();
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 200")) << reply;
  EXPECT_NE(reply.find("\"completion_tokens\":400"), std::string::npos) << reply;
  EXPECT_EQ(service.exit_code(), 0);
  EXPECT_EQ(service.event("stop").at("finished"), true);
  std::vector<std::string> events;
  int64_t streamed = 0;
  for (const json& line : Service::lines_of(service.log_path())) {
    if (line.at("event") != "request") events.push_back(line.at("event"));
    streamed += line.at("event") == "request" && line.value("stream", false) && line.at("status") == 200;
  }
  EXPECT_EQ(events, (std::vector<std::string>{"start", "ready", "drain", "stop"}));
  EXPECT_EQ(streamed, 6);
}

TEST(Serve, WhatIsNotFinishedInTimeEndsWithAnErrorAndExitCodeZero) {
  Service service({"--drain-timeout", "0"});
  ASSERT_EQ(service.notified().substr(0, 8), "READY=1\n");
  Client client(service.port());
  client.post(kChat, question(4000, true).dump());
  ASSERT_TRUE(client.sees("\"delta\":{\"content\":"));
  service.signal(SIGTERM);
  const std::string& text = client.all();
  EXPECT_NE(text.find("\"code\":\"shutting_down\""), std::string::npos) << text;
  EXPECT_EQ(text.find("[DONE]"), std::string::npos);
  EXPECT_EQ(service.exit_code(), 0);
  EXPECT_EQ(service.event("stop").at("finished"), false);
}

TEST(Serve, SighupReadsKeysAndLogFileAnew) {
  const TempFolder keys;
  write_file_atomic(keys / "keys", "# people\nalice:one\nbob:two\n");
  Service service({"--api-key-file", (keys / "keys").string()});
  ASSERT_EQ(service.notified().substr(0, 8), "READY=1\n");
  const int port = service.port();
  const auto status = [&](const std::string& key) {
    Client client(port);
    client.post("/tokenize", R"({"content": "a"})", "Authorization: Bearer " + key + "\r\n");
    return client.all().substr(9, 3);
  };
  EXPECT_EQ(status("one"), "200");
  EXPECT_EQ(service.event("request").at("key"), "alice");
  std::filesystem::rename(service.log_path(), service.folder / "log.1");
  write_file_atomic(keys / "keys", "alice:three\nbob:two\n");
  service.signal(SIGHUP);
  EXPECT_EQ(service.event("reload").at("keys"), 2);
  EXPECT_EQ(status("one"), "401");
  EXPECT_EQ(status("two"), "200");
  EXPECT_EQ(status("three"), "200");
  const size_t moved = Service::lines_of(service.folder / "log.1").size();
  write_file_atomic(keys / "keys", "# nobody\n");
  service.signal(SIGHUP);
  EXPECT_NE(service.event("reload_failed").at("error").get<std::string>().find("no key in it"), std::string::npos);
  EXPECT_EQ(status("three"), "200");
  EXPECT_EQ(Service::lines_of(service.folder / "log.1").size(), moved);
  for (const char* name : {"log", "log.1"})
    for (const char* secret : {"one", "three"}) {
      const std::string text = read_file(service.folder / name);
      EXPECT_EQ(text.find(std::string("\"") + secret), std::string::npos) << text;
    }
  service.signal(SIGTERM);
  EXPECT_EQ(service.exit_code(), 0);
}

TEST(ServeConfig, FlagsWinOverVariablesAndThoseOverTheFile) {
  const TempFolder folder;
  write_file_atomic(folder / "serve.json", R"({
    "_note": "ours", "port": 1, "parallel": 2, "max-queue": 3, "quiet": true, "api-key": ["alice:secret", "other"],
    "rate-requests": 60, "cors-origins": ["localhost", "https://page.example"]})");
  RunOptions options;
  options.environment = {{"VL2_SERVE_CONFIG", (folder / "serve.json").string()},
                         {"VL2_SERVE_PARALLEL", "4"},
                         {"VL2_SERVE_MAX_QUEUE", "5"}};
  const Outcome outcome = run_vl2({"serve", "--print-config", "--json", "--max-queue", "6"}, options);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out.find("secret"), std::string::npos);
  const json all = json::parse(outcome.out);
  const std::string file = (folder / "serve.json").string();
  EXPECT_EQ(all.at("port"), json({{"value", 1}, {"source", file}}));
  EXPECT_EQ(all.at("parallel"), json({{"value", 4}, {"source", "VL2_SERVE_PARALLEL"}}));
  EXPECT_EQ(all.at("max-queue"), json({{"value", 6}, {"source", "--max-queue"}}));
  EXPECT_EQ(all.at("quiet"), json({{"value", true}, {"source", file}}));
  EXPECT_EQ(all.at("api-key"), json({{"value", "(2 hidden)"}, {"source", file}}));
  EXPECT_EQ(all.at("host"), json({{"value", "127.0.0.1"}, {"source", "default"}}));
  EXPECT_EQ(all.at("max-context"), json({{"value", "auto"}, {"source", "default"}}));
  EXPECT_EQ(all.at("cors-origins").at("value"), json({"localhost", "https://page.example"}));
  const json plan = json::parse(run_vl2({"serve", "--dry-run", "--json", "--max-queue", "6"}, options).out);
  EXPECT_EQ(plan.at("parallel"), 4);
  EXPECT_EQ(plan.at("max_queue"), 6);
  EXPECT_EQ(plan.at("keys"), 2);
  EXPECT_EQ(plan.at("rate_requests"), 60);
  EXPECT_EQ(plan.at("rate_tokens"), nullptr);
  EXPECT_EQ(plan.at("log"), nullptr);
}

TEST(ServeConfig, MistakesAreUsageErrors) {
  const TempFolder folder;
  write_file_atomic(folder / "wrong.json", R"({"max-que": 3})");
  Outcome outcome = run_vl2({"serve", "--dry-run", "--config", (folder / "wrong.json").string()}, RunOptions{});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("did you mean max-queue?"), std::string::npos) << outcome.err;
  RunOptions options;
  options.environment = {{"VL2_SERVE_PARALEL", "3"}};
  outcome = run_vl2({"serve", "--dry-run"}, options);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.err.find("did you mean VL2_SERVE_PARALLEL?"), std::string::npos) << outcome.err;
  EXPECT_EQ(run_vl2({"serve", "--json"}, RunOptions{}).exit_code, 2);
  EXPECT_EQ(run_vl2({"serve", "--log-prompts", "--quiet"}, RunOptions{}).exit_code, 2);
  EXPECT_EQ(run_vl2({"serve", "--dry-run", "--config", (folder / "none.json").string()}, RunOptions{}).exit_code, 1);
}

TEST(ServeConfig, DryRunPrintsMemoryAndLimits) {
  const Outcome outcome =
      run_vl2({"serve", "--dry-run", "--rate-requests", "30", "--rate-tokens", "9000", "--api-key", "k"}, RunOptions{});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* part : {"weights ", "cache ", "activations ", "encoded pictures ", "context ", "connections",
                           "limits       30 requests and 9000 tokens a minute, for each key", "log          stderr"})
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << " in\n" << outcome.out;
  const json plan = json::parse(run_vl2({"serve", "--dry-run", "--json"}, RunOptions{}).out);
  const json& memory = plan.at("memory");
  EXPECT_EQ(memory.at("total_bytes"),
            memory.at("weights_bytes").get<int64_t>() + memory.at("cache_bytes").get<int64_t>() +
                memory.at("activations_bytes").get<int64_t>() + memory.at("picture_cache_bytes").get<int64_t>());
  EXPECT_GT(memory.at("weights_bytes"), 0);
  EXPECT_EQ(plan.at("log"), "stderr");
}

}  // namespace
}  // namespace vl2::cli_test
