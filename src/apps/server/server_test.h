// For tests only: a server over a small model on a port of its own, and a client that can also misbehave.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/api_server.h"
#include "core/base/file.h"
#include "core/base/test_data.h"

namespace vl2::server {

using nlohmann::json;

inline std::filesystem::path nano_goldens() { return std::filesystem::path(source_dir()) / "tests/goldens/nano"; }

struct HttpReply {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  bool whole = false;  // ended as its framing says

  json parsed() const { return json::parse(body); }
  std::string error(const char* key) const {
    const json value = parsed().at("error").at(key);
    return value.is_null() ? "null" : value.get<std::string>();
  }
};

// One connection. Reads time out after a minute, so that a hanging server is a failure and no hang.
class TestClient {
 public:
  // receive_bytes: that fit between server and client while nobody reads; 0: what the system likes.
  explicit TestClient(int port, int receive_bytes = 0) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval limit = {60, 0};
    if (receive_bytes > 0) ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~TestClient() { close(); }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool connected() const { return connected_; }
  void close() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  void end_sending() { ::shutdown(socket_, SHUT_WR); }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  // More bytes into the buffer; false: the end.
  bool more() {
    char bytes[16384];
    const ssize_t count = ::recv(socket_, bytes, sizeof(bytes), 0);
    if (count <= 0) return false;
    buffer_.append(bytes, static_cast<size_t>(count));
    return true;
  }
  // Everything up to and with `text`; false: the server closed before.
  bool wait_for(std::string_view text) {
    while (buffer_.find(text) == std::string::npos)
      if (!more()) return false;
    return true;
  }
  const std::string& buffer() const { return buffer_; }
  bool at_end() { return buffer_.empty() && !more(); }

  using Headers = std::vector<std::pair<std::string, std::string>>;
  static std::string text_of(const std::string& method, const std::string& path, const std::string& body,
                             const Headers& headers) {
    std::string text = method + " " + path + " HTTP/1.1\r\nHost: test\r\n";
    for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n";
    if (method == "POST") text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    return text + "\r\n" + body;
  }
  HttpReply request(const std::string& method, const std::string& path, const std::string& body = "",
                    const Headers& headers = {}) {
    send(text_of(method, path, body, headers));
    return read(method);
  }
  HttpReply post(const std::string& path, const json& body, const Headers& headers = {}) {
    return request("POST", path, body.dump(), headers);
  }
  HttpReply get(const std::string& path, const Headers& headers = {}) { return request("GET", path, "", headers); }

  HttpReply read(const std::string& method = "GET") {
    HttpReply reply;
    if (!wait_for("\r\n\r\n")) return reply;
    const size_t end = buffer_.find("\r\n\r\n");
    std::string head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    reply.status = std::atoi(head.substr(9, 3).c_str());
    for (size_t at = head.find("\r\n") + 2; at < head.size();) {
      const size_t stop = head.find("\r\n", at), colon = head.find(':', at);
      std::string name = head.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(std::tolower(c));
      reply.headers[name] = head.substr(colon + 2, stop - colon - 2);
      at = stop + 2;
    }
    if (reply.status == 100) return read(method);
    if (method == "HEAD" || reply.status == 204) {
      reply.whole = true;
    } else if (reply.headers.contains("transfer-encoding")) {
      reply.whole = read_chunks(reply.body);
    } else {
      reply.whole = take(std::stoul(reply.headers.at("content-length")), reply.body);
    }
    return reply;
  }

 private:
  bool take(size_t count, std::string& out) {
    while (buffer_.size() < count)
      if (!more()) return false;
    out += buffer_.substr(0, count);
    buffer_.erase(0, count);
    return true;
  }
  bool read_chunks(std::string& out) {
    while (true) {
      if (!wait_for("\r\n")) return false;
      const size_t size = std::stoul(buffer_, nullptr, 16);
      buffer_.erase(0, buffer_.find("\r\n") + 2);
      std::string crlf;
      if (!take(size, out) || !take(2, crlf)) return false;
      if (size == 0) return true;
    }
  }

  int socket_;
  bool connected_ = false;
  std::string buffer_;
};

// How answers ended, as the engine saw it.
class FinishWatch : public EngineObserver {
 public:
  void on_finish(const Answer& answer) override {
    const std::lock_guard lock(mutex_);
    finished_.push_back(answer.finish);
    changed_.notify_all();
  }
  // The ends of the first `count` answers; waits for them.
  std::vector<FinishReason> wait(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(1), [&] { return finished_.size() >= count; });
    return finished_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<FinishReason> finished_;
};

class TestServer {
 public:
  explicit TestServer(ServerOptions options = {}, bool loaded = true, EngineOptions open_with = {}) {
    options.port = 0;
    if (options.model_ids.empty()) options.model_ids = {"nano", "deepseek-ai/nano"};
    open_with.observer = &watch;
    open_with.compute.threads = 2;
    open_with.max_sequences = options.parallel;
    if (open_with.max_cached_tokens == 0) open_with.max_cached_tokens = 4 * 4096;
    server = std::make_unique<ApiServer>(std::move(options));
    server->start();
    engine_options = open_with;
    if (loaded) load();
  }
  void load() {
    engine = Engine::open(nano_goldens() / "model", engine_options);
    server->set_engine(engine);
  }
  int port() const { return server->port(); }
  HttpReply post(const std::string& path, const json& body, const TestClient::Headers& headers = {}) {
    return TestClient(port()).post(path, body, headers);
  }
  HttpReply get(const std::string& path, const TestClient::Headers& headers = {}) {
    return TestClient(port()).get(path, headers);
  }

  FinishWatch watch;
  EngineOptions engine_options;
  std::shared_ptr<Engine> engine;
  std::unique_ptr<ApiServer> server;
};

inline std::string to_base64(std::string_view bytes, bool url_safe = false, bool padding = true) {
  const std::string alphabet =
      std::string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") + (url_safe ? "-_" : "+/");
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (j < n ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) {
      if (j <= n)
        out += alphabet[group >> (18 - 6 * j) & 63];
      else if (padding)
        out += '=';
    }
  }
  return out;
}

inline std::string picture_file(const std::string& name) { return read_file(nano_goldens() / name); }
inline std::string data_url(const std::string& file) { return "data:image/png;base64," + to_base64(file); }

inline json text_part(const std::string& text) { return {{"type", "text"}, {"text", text}}; }
inline json picture_part(const std::string& url) { return {{"type", "image_url"}, {"image_url", {{"url", url}}}}; }
inline json user(const json& content) { return {{"role", "user"}, {"content", content}}; }
inline json chat(const json& content) { return {{"model", "nano"}, {"messages", {user(content)}}}; }

struct GoldenCase {
  std::string image, question, answer;
  int64_t prompt_tokens = 0, completion_tokens = 0;
};
inline std::vector<GoldenCase> golden_cases() {
  std::vector<GoldenCase> cases;
  for (const json& one : json::parse(read_file(nano_goldens() / "answers.json")))
    if (one.at("margin_min").get<double>() > 6e-3)
      cases.push_back({one.at("image"), one.at("question"), one.at("answer"),
                       static_cast<int64_t>(one.at("prompt_ids").size()),
                       static_cast<int64_t>(one.at("answer_ids").size())});
  return cases;
}
inline json golden_chat(const GoldenCase& one) {
  return chat({picture_part(data_url(picture_file(one.image))), text_part(one.question)});
}

// The events of a stream, without comments; "[DONE]" as a string.
inline std::vector<json> events_of(const std::string& body) {
  std::vector<json> events;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    const std::string event = body.substr(at, end - at);
    at = end == std::string::npos ? body.size() : end + 2;
    if (!event.starts_with("data: ")) continue;
    events.push_back(event == "data: [DONE]" ? json("[DONE]") : json::parse(event.substr(6)));
  }
  return events;
}

}  // namespace vl2::server
