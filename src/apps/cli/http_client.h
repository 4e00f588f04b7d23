// A client to measure and to annoy servers with: HTTP/1.1 over a plain socket, which hands on the bytes as they arrive.
// No TLS, no redirects, no proxies: what is measured is the server and nothing in between.
//
// One request at a time and one thread. Errors: kIo, when the connection ends or stalls where it must not.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace vl2::cli {

struct ServerAddress {
  std::string host;
  int port = 80;
  std::string path;  // in front of every route, without a slash at the end: "" or "/v1"

  std::string text() const;
};
// "http://127.0.0.1:8080/v1", "[::1]:80", "localhost:8080". kInvalidArgument, also for https.
ServerAddress parse_server_address(const std::string& url);

class HttpClient {
 public:
  // kIo: nobody listens. `patience`: how long one read or write may take. `receive_bytes`: that the system takes before
  // anybody reads; 0: what it likes.
  explicit HttpClient(const ServerAddress& address, std::chrono::seconds patience = std::chrono::seconds(600),
                      int receive_bytes = 0);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  using Headers = std::vector<std::pair<std::string, std::string>>;
  // `route`: as it stands behind the address' own path.
  void send(std::string_view method, std::string_view route, std::string_view body, const Headers& headers = {});
  void send_raw(std::string_view bytes);

  // Head of the reply; 100 is passed over.
  int read_status();
  std::string header(const std::string& lower_case_name) const;  // empty: it has none
  // What has arrived of the body, without its framing, at most so many bytes. Empty: the body is complete.
  std::string read_some(size_t most = SIZE_MAX);
  std::string read_all();

  // Ends both directions from any thread: a reader fails with kIo.
  void abort() const;
  int descriptor() const { return socket_; }

 private:
  enum class Framing { kLength, kChunks, kClose };

  bool fill(size_t most);  // false: the server closed
  std::string take(size_t most, size_t read);
  std::string read_line();

  int socket_ = -1;
  ServerAddress address_;
  std::string buffer_;
  std::map<std::string, std::string> headers_;
  Framing framing_ = Framing::kClose;
  size_t left_ = 0;  // of the body, or of its chunk
  bool done_ = true;
};

// Cuts what arrives into server-sent events: the data of each, comments left out.
class EventReader {
 public:
  std::vector<std::string> feed(std::string_view bytes);
  bool empty() const { return buffer_.empty(); }

 private:
  std::string buffer_;
};

}  // namespace vl2::cli
