#include "apps/cli/http_client.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "core/base/error.h"

namespace vl2::cli {
namespace {

TEST(ServerAddress, IsReadAsPeopleWriteIt) {
  const struct {
    const char* url;
    const char* host;
    int port;
    const char* path;
  } cases[] = {{"http://127.0.0.1:8080", "127.0.0.1", 8080, ""},
               {"http://gpu-box:8080/v1/", "gpu-box", 8080, "/v1"},
               {"localhost:9", "localhost", 9, ""},
               {"http://localhost", "localhost", 80, ""},
               {"http://[::1]:8080/a/b", "::1", 8080, "/a/b"},
               {"[::1]", "::1", 80, ""}};
  for (const auto& one : cases) {
    const ServerAddress address = parse_server_address(one.url);
    EXPECT_EQ(address.host, one.host) << one.url;
    EXPECT_EQ(address.port, one.port) << one.url;
    EXPECT_EQ(address.path, one.path) << one.url;
  }
  for (const char* url : {"", "http://", "https://x", "ftp://x", "x:0", "x:65536", "x:y", "http://[::1", "[::1]x"})
    EXPECT_THROW(parse_server_address(url), Error) << url;
}

// Sends one reply, byte by byte, to whoever connects.
class OneReply {
 public:
  explicit OneReply(std::string reply) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ::bind(socket_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(socket_, 1);
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, reply] {
      const int peer = ::accept(socket_, nullptr, nullptr);
      for (const char c : reply) (void)::send(peer, &c, 1, MSG_NOSIGNAL);
      ::close(peer);
    });
  }
  ~OneReply() {
    thread_.join();
    ::close(socket_);
  }
  ServerAddress address() const { return {"127.0.0.1", port_, ""}; }

 private:
  int socket_, port_ = 0;
  std::thread thread_;
};

std::string body_of(const std::string& reply, size_t most = SIZE_MAX) {
  OneReply server(reply);
  HttpClient client(server.address());
  EXPECT_EQ(client.read_status(), 200);
  std::string body;
  for (std::string part = client.read_some(most); !part.empty(); part = client.read_some(most)) {
    EXPECT_LE(part.size(), most);
    body += part;
  }
  return body;
}

TEST(HttpClient, TakesTheFramingAway) {
  const std::string head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Y:  z \r\n";
  for (const size_t most : {size_t{1}, size_t{3}, SIZE_MAX}) {
    EXPECT_EQ(body_of(head + "Content-Length: 5\r\n\r\nhello", most), "hello");
    EXPECT_EQ(body_of(head + "Content-Length: 0\r\n\r\n", most), "");
    EXPECT_EQ(body_of(head + "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", most), "hello");
    EXPECT_EQ(body_of(head + "\r\nhello", most), "hello");
  }
}

TEST(HttpClient, WhatEndsInTheMiddleIsAnError) {
  const std::string head = "HTTP/1.1 200 OK\r\n";
  for (const char* rest : {"Content-Length: 5\r\n\r\nhell", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                           "X: y\r\n", "Transfer-Encoding: chunked\r\n\r\nx\r\n", "Content-Length: x\r\n\r\n"})
    EXPECT_THROW(body_of(head + rest), Error) << rest;
  EXPECT_THROW(body_of("SSH-2.0\r\n\r\n"), Error);
}

TEST(EventReader, FindsEventsWhereverTheyAreCut) {
  const std::string text = ": ping\n\ndata: {\"a\": 1}\n\ndata: [DONE]\n\n";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EventReader reader;
    std::vector<std::string> events = reader.feed(text.substr(0, cut));
    for (std::string& event : reader.feed(text.substr(cut))) events.push_back(std::move(event));
    EXPECT_EQ(events, (std::vector<std::string>{"{\"a\": 1}", "[DONE]"})) << cut;
    EXPECT_TRUE(reader.empty());
  }
}

}  // namespace
}  // namespace vl2::cli
