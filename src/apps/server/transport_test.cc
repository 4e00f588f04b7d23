// HTTP itself: what is read, what is refused, and that nothing of it hangs or grows.
#include <atomic>
#include <thread>

#include "apps/server/access.h"
#include "apps/server/api_error.h"
#include "apps/server/connection.h"
#include "apps/server/http_head.h"
#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

int status_of_head(const std::string& text) {
  try {
    parse_http_head(text, {});
    return 200;
  } catch (const ApiError& error) {
    return error.status();
  }
}

TEST(HttpHead, ReadsWhatClientsSend) {
  const HttpHead head = parse_http_head(
      "POST /v1/models/org%2Fname?a=b HTTP/1.1\r\nHost: x\r\nX-Stainless-Lang:\tjs \r\nContent-Length: 12\r\n"
      "Expect: 100-Continue\r\n\r\n",
      {});
  EXPECT_EQ(head.method, "POST");
  EXPECT_EQ(head.path, "/v1/models/org/name");
  EXPECT_EQ(head.query, "a=b");
  EXPECT_EQ(head.header("x-stainless-lang"), "js");
  EXPECT_EQ(head.content_length, 12);
  EXPECT_TRUE(head.expects_continue);
  EXPECT_TRUE(head.keep_alive);
  EXPECT_EQ(parse_http_head("GET http://host:80/a HTTP/1.1\r\nHost: x\r\n\r\n", {}).path, "/a");
  EXPECT_FALSE(parse_http_head("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", {}).keep_alive);
  EXPECT_FALSE(parse_http_head("GET / HTTP/1.0\r\n\r\n", {}).keep_alive);
}

TEST(HttpHead, RefusesWhatTwoReadersCouldReadDifferently) {
  const std::string post = "POST / HTTP/1.1\r\nHost: x\r\n";
  for (const std::string& text : {
           post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
           post + "Content-Length: 3\r\nContent-Length: 20\r\n\r\n",
           post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
           post + "Content-Length: +3\r\n\r\n",
           post + "Content-Length: 3, 3\r\n\r\n",
           post + "Content-Length:\r\nContent-Length: 3\r\n\r\n",
           post + "Content-Length: 0x3\r\n\r\n",
           post + "Content-Length: 99999999999999999999\r\n\r\n",
           post + "Content-Length : 3\r\n\r\n",
           post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
           post + "Host: y\r\nContent-Length: 3\r\n\r\n",
           post + "X: a\r\n folded\r\nContent-Length: 3\r\n\r\n",
           post + "X: a\nContent-Length: 3\r\n\r\n",
           post + "X: a\rb\r\nContent-Length: 3\r\n\r\n",
           post + std::string("X: a\0b\r\nContent-Length: 3\r\n\r\n", 29),
           post + ": nameless\r\nContent-Length: 3\r\n\r\n",
           std::string("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
           std::string("GET / HTTP/1.1\r\n\r\n"),
           std::string("GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
           std::string("GET  HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("\r\n\r\n"),
           std::string("G{T / HTTP/1.1\r\nHost: x\r\n\r\n"),
       })
    EXPECT_EQ(status_of_head(text), 400) << text;
  EXPECT_EQ(status_of_head(post + "\r\n"), 411);
  EXPECT_EQ(status_of_head(post + "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501);
  EXPECT_EQ(status_of_head(post + "Content-Length: 3\r\nContent-Encoding: gzip\r\n\r\n"), 415);
  EXPECT_EQ(status_of_head(post + "Content-Length: 3\r\nExpect: magic\r\n\r\n"), 417);
  EXPECT_EQ(status_of_head(post + "Content-Length: 9999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(status_of_head("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), 505);
  EXPECT_EQ(status_of_head("GET /" + std::string(9000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n"), 414);
  std::string many = "GET / HTTP/1.1\r\nHost: x\r\n";
  for (int i = 0; i < 200; ++i) many += fmt::format("X{}: y\r\n", i);
  EXPECT_EQ(status_of_head(many + "\r\n"), 431);
}

// A server without a model: enough for what comes before one.
class Transport : public testing::Test {
 protected:
  static ServerOptions options() {
    ServerOptions options;
    options.http.body_bytes = 100'000;
    options.http.head_time = std::chrono::milliseconds(300);
    options.http.stall_time = std::chrono::milliseconds(300);
    options.cors_origins = {"https://page.example", "localhost"};
    options.log = [](std::string_view) {};
    return options;
  }
  std::string raw(const std::string& bytes, bool half_close = false) {
    TestClient client(server_.port());
    client.send(bytes);
    if (half_close) client.end_sending();
    while (client.more()) {
    }
    return client.buffer();
  }

  TestServer server_{options(), false};
};

TEST_F(Transport, MalformedRequestsAreAnsweredInJsonAndClosed) {
  for (const std::string& bytes : {std::string("nonsense\r\n\r\n"),
                                   std::string("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                                               "Content-Length: 40\r\n\r\nabcGET /health HTTP/1.1\r\nHost: x\r\n\r\n"),
                                   std::string("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
                                               "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\n"
                                               "Host: x\r\n\r\n")}) {
    const std::string reply = raw(bytes);
    EXPECT_TRUE(reply.starts_with("HTTP/1.1 400 Bad Request\r\n")) << reply;
    EXPECT_NE(reply.find("\"type\":\"invalid_request_error\""), std::string::npos);
    EXPECT_NE(reply.find("Connection: close"), std::string::npos);
    EXPECT_EQ(reply.find("Loading model"), std::string::npos);  // what was smuggled is not answered
  }
}

TEST_F(Transport, AnEndlessHeadIsCutOff) {
  EXPECT_TRUE(raw("GET /health HTTP/1.1\r\nHost: x\r\nX: " + std::string(200'000, 'y')).starts_with("HTTP/1.1 431"));
  EXPECT_TRUE(raw(std::string(200'000, 'y')).starts_with("HTTP/1.1 431"));
}

TEST_F(Transport, PartialHeadsEndWhenTheirTimeIsUp) {
  EXPECT_TRUE(raw("GET /health HTTP/1.1\r\nHo").starts_with("HTTP/1.1 408"));
  EXPECT_TRUE(raw("GET /health HTTP/1.1\r\nHo", true).starts_with("HTTP/1.1 400"));
  EXPECT_EQ(raw("", true), "");
}

TEST_F(Transport, TheBodyOfARequestWithoutOneIsNoRequest) {
  const std::string hidden = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
  const std::string reply =
      raw("GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(hidden.size()) + "\r\n\r\n" + hidden);
  EXPECT_NE(reply.find("Loading model"), std::string::npos);
  EXPECT_EQ(reply.find("# HELP"), std::string::npos);
}

// With a model, because bodies are read only then.
class Bodies : public testing::Test {
 protected:
  static ServerOptions options() {
    ServerOptions options;
    options.http.body_bytes = 100'000;
    options.http.stall_time = std::chrono::milliseconds(300);
    return options;
  }
  std::string tokenized(const std::string& framing, const std::string& body) {
    TestClient client(server_.port());
    client.send("POST /tokenize HTTP/1.1\r\nHost: x\r\n" + framing + "\r\n\r\n" + body);
    const HttpReply reply = client.read();
    return std::to_string(reply.status) + " " + reply.body;
  }
  std::string chunked(const std::string& body) { return tokenized("Transfer-Encoding: chunked", body); }

  TestServer server_{options()};
};

TEST_F(Bodies, ComeInChunksToo) {
  const std::string expected = tokenized("Content-Length: 16", "{\"content\":\"abc\"}").substr(0, 4);
  EXPECT_EQ(chunked("5\r\n{\"con\r\n0c;x=y\r\ntent\":\"abc\"}\r\n0\r\nTrailer: z\r\n\r\n").substr(0, 4), "200 ");
  EXPECT_EQ(expected, "400 ");  // a byte short: the length is what counts
  EXPECT_EQ(tokenized("Content-Length: 17", "{\"content\":\"abc\"}").substr(0, 4), "200 ");
}

TEST_F(Bodies, BadChunksAreRefused) {
  for (const char* body : {"zz\r\nabc\r\n0\r\n\r\n", "-3\r\nabc\r\n0\r\n\r\n", "\r\nabc\r\n0\r\n\r\n",
                           "3\r\nabcdef\r\n0\r\n\r\n", "fffffffff\r\nabc\r\n", "3 \nabc\r\n0\r\n\r\n0x3\r\n"})
    EXPECT_EQ(chunked(body).substr(0, 4), "400 ") << body;
  EXPECT_EQ(chunked("5\r\nab").substr(0, 4), "408 ");  // and then silence
}

TEST_F(Bodies, HaveALimitHoweverTheyCome) {
  const std::string large(150'000, 'x');
  EXPECT_EQ(tokenized("Content-Length: 150000", large).substr(0, 4), "413 ");
  std::string chunks;
  for (int i = 0; i < 15; ++i) chunks += "2710\r\n" + std::string(10'000, 'x') + "\r\n";
  EXPECT_EQ(chunked(chunks + "0\r\n\r\n").substr(0, 4), "413 ");
  EXPECT_EQ(chunked("7fffffff\r\n").substr(0, 4), "413 ");
}

TEST_F(Bodies, ThatAreTooLargeAreRefusedAsTheirRouteRefuses) {
  ServerOptions locked = options();
  locked.keys = {"key"};
  locked.cors_origins = {"https://page.example"};
  TestServer server(locked);
  const auto post = [&](const std::string& path, const std::string& key) {
    TestClient client(server.port());
    client.send("POST " + path +
                " HTTP/1.1\r\nHost: x\r\nOrigin: https://page.example\r\nX-Request-Id: mine\r\nX-Api-Key: " + key +
                "\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n");
    return client.read();  // at once: nothing of the body is waited for, and no "100 Continue" asks for it
  };
  for (const char* path : {"/v1/chat/completions", "/v1/messages", "/api/chat"}) {
    const HttpReply reply = post(path, "key");
    EXPECT_EQ(reply.status, 413) << reply.body;
    EXPECT_EQ(reply.headers.at("access-control-allow-origin"), "https://page.example");
    EXPECT_EQ(reply.headers.at("x-request-id"), "mine");
    EXPECT_EQ(reply.headers.at("connection"), "close");
  }
  EXPECT_EQ(post("/v1/chat/completions", "key").error("code"), "request_too_large");
  EXPECT_EQ(post("/v1/messages", "key").parsed().at("error").at("type"), "request_too_large");
  EXPECT_TRUE(post("/api/chat", "key").parsed().at("error").is_string());
  EXPECT_EQ(post("/v1/chat/completions", "other").status, 401);
  EXPECT_EQ(post("/nowhere", "key").status, 404);
}

TEST_F(Bodies, WaitForTheWordOfTheServerWhenTheyAskFor) {
  TestClient client(server_.port());
  client.send("POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 17\r\n\r\n");
  ASSERT_TRUE(client.wait_for("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send("{\"content\":\"abc\"}");
  EXPECT_EQ(client.read().status, 200);
}

TEST_F(Bodies, ServersHoldSoMuchOfThemTogether) {
  ServerOptions few = options();
  few.http.bodies_bytes = 120'000;
  TestServer server(few);
  const HttpReply alone = TestClient(server.port()).request("POST", "/tokenize", std::string(90'000, ' '));
  EXPECT_EQ(alone.status, 400);
  std::atomic<size_t> held{60'000};  // as if another one were being read
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  Connection connection(ends[0]);
  const std::string body(70'000, ' ');
  std::thread sender([&] { EXPECT_EQ(::send(ends[1], body.data(), body.size(), MSG_NOSIGNAL), 70'000); });
  HttpHead parsed;
  parsed.content_length = 70'000;
  {
    HttpExchange exchange(connection, parsed, few.http, held);
    EXPECT_THROW(exchange.take_body(), ApiError);
  }
  EXPECT_EQ(held, 60'000u);
  connection.linger(std::chrono::milliseconds(0));
  sender.join();
  ::close(ends[1]);
}

TEST(Connections, AReaderThatDoesNotReadIsGivenUp) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  Connection connection(ends[0]);
  EXPECT_TRUE(connection.write_all("a little", std::chrono::milliseconds(50)));
  EXPECT_FALSE(connection.write_all(std::string(64 << 20, 'x'), std::chrono::milliseconds(50)));
  EXPECT_FALSE(connection.peer_gone());
  ::close(ends[1]);
  EXPECT_TRUE(connection.peer_gone());
}

TEST(Connections, IdleOnesAreClosed) {
  ServerOptions options;
  options.http.idle_time = std::chrono::milliseconds(50);
  TestServer server(options, false);
  TestClient silent(server.port()), used(server.port());
  EXPECT_EQ(used.get("/").status, 200);
  EXPECT_TRUE(used.at_end());
  EXPECT_TRUE(silent.at_end());
  while (server.server->http().connections() > 0) std::this_thread::yield();
}

TEST(Connections, HaveABoundAndSayItWhenItIsReached) {
  ServerOptions options;
  options.http.connections = 3;
  TestServer server(options, false);
  TestClient a(server.port()), b(server.port()), c(server.port());
  for (TestClient* client : {&a, &b, &c}) client->send("GET / HT");  // and no more
  while (server.server->http().connections() < 3) std::this_thread::yield();
  TestClient d(server.port());
  EXPECT_EQ(d.read().status, 503);
  EXPECT_LE(server.server->http().threads(), 3u);
  const TransportCounts counts = server.server->context().transport();
  EXPECT_EQ(counts.connections, 3u);
  EXPECT_EQ(counts.most_connections, 3u);
  EXPECT_LE(counts.threads, 3u);
  a.close();
  while (server.server->http().connections() > 2) std::this_thread::yield();
  EXPECT_EQ(server.get("/").status, 200);
}

TEST_F(Transport, EveryReplyHasAnIdTheClientsIfItIsOne) {
  EXPECT_EQ(server_.get("/", {{"X-Request-Id", "abc-1_2.3:4"}}).headers.at("x-request-id"), "abc-1_2.3:4");
  for (const std::string& bad : {std::string("a b"), std::string("<script>"), std::string(129, 'a')})
    EXPECT_TRUE(server_.get("/", {{"x-request-id", bad}}).headers.at("x-request-id").starts_with("req-"));
}

TEST_F(Transport, PagesOfAdmittedOriginsMayAskAndNoOthers) {
  const auto preflight = [&](const std::string& origin) {
    return TestClient(server_.port())
        .request("OPTIONS", "/v1/chat/completions", "",
                 {{"Origin", origin},
                  {"Access-Control-Request-Method", "POST"},
                  {"Access-Control-Request-Headers", "authorization, x-stainless-os"}});
  };
  for (const char* origin :
       {"https://page.example", "http://localhost:5173", "http://127.0.0.1", "http://[::1]:3000"}) {
    const HttpReply reply = preflight(origin);
    EXPECT_EQ(reply.status, 204);
    EXPECT_EQ(reply.headers.at("access-control-allow-origin"), origin);
    EXPECT_EQ(reply.headers.at("access-control-allow-headers"), "authorization, x-stainless-os");
    EXPECT_EQ(reply.headers.at("access-control-allow-methods"), "POST, OPTIONS");
    EXPECT_FALSE(reply.headers.contains("access-control-allow-credentials"));
    EXPECT_NE(server_.get("/", {{"Origin", origin}}).headers.at("access-control-expose-headers").find("x-request-id"),
              std::string::npos);
  }
  for (const char* origin : {"https://evil.example", "http://localhost.evil.example",
                             "http://localhost:5173.evil.example", "null", "https://page.example.evil"})
    EXPECT_FALSE(preflight(origin).headers.contains("access-control-allow-origin")) << origin;
  ServerOptions any;
  any.cors_origins = {"*"};
  TestServer open(any, false);
  EXPECT_EQ(open.get("/", {{"Origin", "https://x.example"}}).headers.at("access-control-allow-origin"), "*");
  TestServer closed({}, false);
  EXPECT_FALSE(closed.get("/", {{"Origin", "https://x.example"}}).headers.contains("access-control-allow-origin"));
}

TEST_F(Transport, HeadIsGetWithoutABody) {
  TestClient client(server_.port());
  const HttpReply head = client.request("HEAD", "/");
  EXPECT_EQ(head.status, 200);
  const HttpReply get = client.get("/");  // the same connection: nothing of a body was sent
  EXPECT_EQ(head.headers.at("content-length"), std::to_string(get.body.size()));
}

TEST(Keys, AreComparedWhole) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("xbc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abcd"));
  EXPECT_TRUE(equal_in_constant_time("", ""));
}

}  // namespace
}  // namespace vl2::server
