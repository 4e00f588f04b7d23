// Closed doors of HTTP (docs/server.md): requests that two servers would read differently, replies that a client would
// like to write itself, and clients that take their time.
#include <chrono>
#include <thread>

#include "apps/server/access.h"
#include "apps/server/api_error.h"
#include "apps/server/http_head.h"
#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

using std::chrono::milliseconds;

std::string post(const std::string& headers) { return "POST / HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n\r\n"; }

int status_of_head(const std::string& text) {
  try {
    parse_http_head(text, {});
    return 200;
  } catch (const ApiError& error) {
    return error.status();
  }
}

TEST(HttpDoorsHead, ALengthIsSaidOnceAndInDigits) {
  for (const std::string value : {"", "-1", "+3", "3 3", "3,3", "0x3", "3.0", "1e1", "3;", "\xef\xbc\x93", "3\x0b"})
    EXPECT_EQ(status_of_head(post("Content-Length: " + value)), 400) << value;
  for (const std::string headers :
       {"Content-Length: 3\r\nContent-Length: 4", "Content-Length: 3\r\ncontent-length: 3",
        "Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 0\r\nTransfer-Encoding: identity"})
    EXPECT_EQ(status_of_head(post(headers)), 400) << headers;
}

TEST(HttpDoorsHead, TheOnlyTransferCodingIsChunkedWrittenPlainly) {
  EXPECT_EQ(status_of_head(post("Transfer-Encoding: chunked")), 200);
  EXPECT_EQ(status_of_head(post("transfer-ENCODING:\tChunked ")), 200);
  for (const std::string value : {"xchunked", "chunked, identity", "identity, chunked", "chunked,", ", chunked",
                                  "chunked;q=1", "\"chunked\"", "chun ked", "gzip, chunked", "identity", ""})
    EXPECT_EQ(status_of_head(post("Transfer-Encoding: " + value)), 501) << value;
  for (const std::string headers :
       {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked", " Transfer-Encoding: chunked", "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tz", "Transfer-Encoding\r\n : chunked",
        "Transfer-Encoding: \x0b"
        "chunked",
        "Transfer-Encoding: chunked\x0c", "\x0bTransfer-Encoding: chunked"})
    EXPECT_EQ(status_of_head(post(headers)), 400) << headers;
  EXPECT_EQ(status_of_head(post("Transfer_Encoding: chunked")), 411);  // another header altogether
}

TEST(HttpDoorsHead, LinesEndWithCrLfAndNothingElse) {
  const std::string nul(1, '\0');
  for (const std::string& text :
       {std::string("POST / HTTP/1.1\nHost: x\nContent-Length: 3\n\n\r\n\r\n"), post("X: a\nContent-Length: 3"),
        post("X: a\rContent-Length: 3"), post("X: a\r\rContent-Length: 3\r\nY: b"), post("X: a" + nul + "b"),
        post("X" + nul + ": b\r\nContent-Length: 3"), post("Content-Length: 3" + nul), post("X: \x7f"),
        post("Content-Length: 3\r\n\nY: z"), std::string("POST /\rx HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string("GET /a\tHTTP/1.1\r\nHost: x\r\n\r\n"), std::string("GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string(" GET / HTTP/1.1\r\nHost: x\r\n\r\n"), std::string("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")})
    EXPECT_EQ(status_of_head(text), 400) << text;
}

class HttpDoors : public testing::Test {
 protected:
  static ServerOptions options() {
    ServerOptions options;
    options.http.body_bytes = 100'000;
    options.http.head_time = milliseconds(400);
    options.http.body_time = milliseconds(600);
    options.http.stall_time = milliseconds(5000);  // a drip is never silent that long
    options.model_ids = {"nano"};
    return options;
  }
  // All that comes back until the server closes.
  std::string raw(const std::string& bytes) {
    TestClient client(server_.port());
    client.send(bytes);
    while (client.more()) {
    }
    return client.buffer();
  }
  std::string chunked(const std::string& body) {
    return raw("POST /tokenize HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body);
  }
  // A byte now and then: the status of the reply, and after how long it came.
  std::pair<int, milliseconds> drip(const std::string& start, char byte) {
    TestClient client(server_.port());
    client.send(start);
    std::atomic<bool> over{false};
    std::thread sender([&] {
      for (int i = 0; i < 200 && !over && client.send(std::string(1, byte)); ++i)
        std::this_thread::sleep_for(milliseconds(20));
    });
    const auto begin = std::chrono::steady_clock::now();
    client.wait_for("\r\n\r\n");
    const auto time = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
    over = true;
    sender.join();
    return {client.read().status, time};
  }

  TestServer server_{options()};
};

TEST_F(HttpDoors, ChunksSayTheirSizeInOneWay) {
  const std::string good = "{\"content\":\"abc\"}";
  EXPECT_TRUE(chunked("11\r\n" + good + "\r\n0\r\n\r\n").starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(chunked("0011 ;a=\"b c\"\r\n" + good + "\r\n0;x\r\nX-Trailer: y\r\n\r\n").starts_with("HTTP/1.1 200"));
  const std::string end = good + "\r\n0\r\n\r\n";
  for (const std::string& body :
       {" 11\r\n" + end, "11 \r\n" + end, "\t11\r\n" + end, "+11\r\n" + end, "0x11\r\n" + end, "11h\r\n" + end,
        "11,11\r\n" + end, "000000011\r\n" + end, "10000000000000011\r\n" + end, "ffffffffffffffff\r\n" + end,
        // An extension with a line end of its own, where another reader sees a chunk.
        "11;a\nb\r\n" + end, "11;a\rb\r\n" + end, "11\n" + end, "11;\x01\r\n" + end, "11\r\n" + good + "0\r\n\r\n",
        "11\r\n" + good + "\n0\r\n\r\n", "11\r\n" + good + "\r0\r\n\r\n",
        // Trailers are thrown away, but have to be headers.
        "11\r\n" + good + "\r\n0\r\nnonsense\r\n\r\n", "11\r\n" + good + "\r\n0\r\nX: a\nGET / HTTP/1.1\r\n\r\n",
        "11\r\n" + good + "\r\n0\r\nX : a\r\n\r\n", "11\r\n" + good + "\r\n0\r\n folded: a\r\n\r\n"})
    EXPECT_TRUE(chunked(body).starts_with("HTTP/1.1 400")) << body;
  const std::string trailers = "X: " + std::string(900, 'y') + "\r\n";
  std::string many;
  for (int i = 0; i < 20; ++i) many += trailers;
  EXPECT_TRUE(chunked("11\r\n" + good + "\r\n0\r\n" + many + "\r\n").starts_with("HTTP/1.1 431"));
  EXPECT_TRUE(chunked("11;" + std::string(5000, 'x') + "\r\n" + end).starts_with("HTTP/1.1 431"));
}

TEST_F(HttpDoors, TrailersChangeNothing) {
  const std::string body = "11\r\n{\"content\":\"abc\"}\r\n0\r\nContent-Length: 999\r\nx-request-id: mine\r\n\r\n";
  const std::string reply = chunked(body);
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 200")) << reply;
  EXPECT_EQ(reply.find("mine"), std::string::npos);
}

TEST_F(HttpDoors, PipelinedRequestsAreAnsweredInTheirOrder) {
  const std::string one =
      TestClient::text_of("POST", "/tokenize", "{\"content\":\"abc\"}", {{"x-request-id", "first"}});
  const std::string two = TestClient::text_of("GET", "/v1/models", "", {{"x-request-id", "second"}});
  const std::string three = TestClient::text_of("POST", "/tokenize", "[]", {{"x-request-id", "third"}});
  const std::string four = TestClient::text_of("GET", "/health", "", {{"x-request-id", "fourth"}});
  TestClient client(server_.port());
  client.send(one + two + three + four);
  for (const auto& [id, status] : {std::pair{"first", 200}, {"second", 200}, {"third", 400}, {"fourth", 200}}) {
    const HttpReply reply = client.read();
    EXPECT_EQ(reply.status, status);
    EXPECT_EQ(reply.headers.at("x-request-id"), id);
  }
}

TEST_F(HttpDoors, BehindAMalformedRequestNothingIsRead) {
  const std::string hidden = TestClient::text_of("GET", "/v1/models", "", {{"x-request-id", "smuggled"}});
  for (const std::string& front :
       {post("Content-Length: 3\r\nContent-Length: 60"), post("Content-Length: 3\r\nTransfer-Encoding: chunked"),
        std::string(
            "POST /tokenize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;\nx\r\nabc\r\n0\r\n\r\n"),
        // A body that nobody asked for: too long to be read, so that what follows is not a request.
        std::string("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n")}) {
    const std::string reply = raw(front + hidden);
    EXPECT_TRUE(reply.starts_with("HTTP/1.1 4")) << reply;
    EXPECT_NE(reply.find("Connection: close"), std::string::npos) << reply;
    EXPECT_EQ(reply.find("smuggled"), std::string::npos) << reply;
  }
  // A body that is left unread, because the route is not there, is no request either.
  const std::string body = hidden;
  const std::string reply =
      raw("POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  EXPECT_TRUE(reply.starts_with("HTTP/1.1 404")) << reply;
  EXPECT_EQ(reply.find("smuggled"), std::string::npos) << reply;
}

TEST_F(HttpDoors, HeadsThatDripEndWithTheirTime) {
  const auto [status, time] = drip("GET /health HTTP/1.1\r\nHost: x\r\nX: ", 'y');
  EXPECT_EQ(status, 408);
  EXPECT_GE(time, milliseconds(300));
}

TEST_F(HttpDoors, BodiesThatDripEndWithTheirTime) {
  for (const std::string framing : {"Content-Length: 90000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nffff\r\n"}) {
    const auto [status, time] = drip("POST /tokenize HTTP/1.1\r\nHost: x\r\n" + framing, ' ');
    EXPECT_EQ(status, 408);
    EXPECT_GE(time, milliseconds(500));
  }
}

TEST_F(HttpDoors, NoClientWritesAHeaderOfTheReply) {
  for (const std::string id : {"a\tb", "a;b", "a,b", "a%0d%0aX-Evil: 1", "a\xc3\xa9", "a\\r\\nX-Evil: 1"}) {
    const HttpReply reply = server_.get("/health", {{"x-request-id", id}});
    EXPECT_TRUE(reply.headers.at("x-request-id").starts_with("req-")) << id;
    EXPECT_FALSE(reply.headers.contains("x-evil"));
  }
  EXPECT_TRUE(raw("GET /health HTTP/1.1\r\nHost: x\r\nx-request-id: a\rX-Evil: 1\r\n\r\n").starts_with("HTTP/1.1 400"));
  // Names of models and paths come back in bodies alone.
  const std::string evil = "nano\r\nX-Evil: 1\r\n\r\n";
  for (const HttpReply& reply :
       {server_.post("/v1/chat/completions", {{"model", evil}, {"messages", {user("Hello")}}}),
        server_.post("/api/show", {{"model", evil}}), server_.get("/v1/models/nano%0d%0aX-Evil:%201"),
        server_.get("/none%0d%0aX-Evil:%201"), server_.get("/health?%0d%0aX-Evil:%201")}) {
    EXPECT_FALSE(reply.headers.contains("x-evil"));
    EXPECT_TRUE(reply.status == 404 || reply.status == 200) << reply.body;
    EXPECT_NO_THROW(reply.parsed());
  }
}

TEST_F(HttpDoors, BodiesOfBytesThatAreNoJsonAreRefusedQuickly) {
  const std::string nul(1, '\0');
  for (const std::string& body :
       {std::string("\xef\xbb\xbf{}x"), nul, "{}" + nul, std::string("{} {}"),
        std::string("{\"content\":\"\xed\xa0\x80\"}"), std::string("{\"content\":\"\\ud800\"}"),
        std::string("{\"content\":\"\xc0\x80\"}"), std::string("{\"content\":1e999}"), std::string("{\"content\":NaN}"),
        std::string("{'content':'a'}"), std::string("{\"content\":\"a\",}"), std::string("{\"content\":\"a\n\"}"),
        std::string("{\"a\":{\"b\":1,\"b\":2}}"), std::string(99'000, '['),
        "{\"content\":" + std::string(99'000, '"') + "}", std::string(99'000, ' ')}) {
    const HttpReply reply = TestClient(server_.port()).request("POST", "/tokenize", body);
    EXPECT_EQ(reply.status, 400) << body.substr(0, 80);
    EXPECT_EQ(reply.error("type"), "invalid_request_error");
  }
  // Many keys and many values within the limit.
  std::string keys = "{\"content\":\"a\"";
  for (int i = 0; keys.size() < 90'000; ++i) keys += fmt::format(",\"k{}\":[0,{{}}]", i);
  EXPECT_EQ(TestClient(server_.port()).request("POST", "/tokenize", keys + "}").status, 200);
}

TEST(HttpDoorsCors, NoOriginIsAdmittedTogetherWithCredentials) {
  for (const std::vector<std::string>& origins :
       {std::vector<std::string>{"*"}, {"localhost"}, {"https://page.example"}, {"*", "https://page.example"}}) {
    ServerOptions options;
    options.cors_origins = origins;
    TestServer server(options, false);
    for (const char* method : {"GET", "OPTIONS"})
      for (const char* origin : {"https://page.example", "http://localhost:3000", "null", "https://evil.example"}) {
        const HttpReply reply = TestClient(server.port())
                                    .request(method, "/health", "",
                                             {{"Origin", origin},
                                              {"Cookie", "a=b"},
                                              {"Access-Control-Request-Method", "GET"},
                                              {"Access-Control-Request-Headers", "authorization"}});
        EXPECT_FALSE(reply.headers.contains("access-control-allow-credentials"));
        EXPECT_EQ(reply.headers.at("vary"), "Origin");
        EXPECT_TRUE(origins[0] != "*" || reply.headers.at("access-control-allow-origin") == "*");
      }
  }
}

// What the time of a comparison could tell: digests are compared, so a key that begins rightly is no nearer.
TEST(HttpDoorsKeys, AreComparedByDigestsAndNeverShown) {
  ServerOptions options;
  options.keys = {"correct horse battery"};
  TestServer server(options, false);
  for (const std::string key : {"correct horse batter", "correct horse battery ", "correct horse batterY", "c"}) {
    const bool same = key == "correct horse battery ";  // white space around a header's value is none of it
    const HttpReply reply = server.get("/v1/models", {{"Authorization", "Bearer " + key}});
    EXPECT_EQ(reply.status, same ? 200 : 401) << key;
    EXPECT_EQ(reply.body.find("horse"), std::string::npos);
  }
  // Twice said is not asked twice.
  const TestClient::Headers two = {{"x-api-key", "wrong"}, {"x-api-key", "correct horse battery"}};
  EXPECT_EQ(server.get("/v1/models", two).status, 400);
}

}  // namespace
}  // namespace vl2::server
