#include "apps/server/host_names.h"

#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

TEST(HostNames, AreListedWholeOrByWhatTheyLieBelow) {
  EXPECT_TRUE(is_listed_host("Example.org", {"other.org", "example.org"}));
  EXPECT_TRUE(is_listed_host("a.Example.org", {".example.org"}));
  EXPECT_FALSE(is_listed_host("example.org", {".example.org"}));
  EXPECT_FALSE(is_listed_host("a.example.org", {"example.org"}));
  EXPECT_FALSE(is_listed_host("evilexample.org", {"example.org", ".example.org"}));
  EXPECT_FALSE(is_listed_host("", {"example.org", ".example.org"}));
  EXPECT_FALSE(is_listed_host("example.org", {}));
}

TEST(HostNames, ArePrivateWhereNoStrangersDnsAnswers) {
  for (const std::string host :
       {"localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:8080", "192.168.1.7:80", "[::1]", "[::1]:8080",
        "[2001:db8::1]:8080", "vl2:8080", "a.localhost:1", "printer.LOCAL", "vl2.internal:8080", "localhost.", ""})
    EXPECT_TRUE(is_private_host(host)) << host;
  for (const std::string host :
       {"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example:8080", "evil.example.",
        "local.example", "evil.localhost.example", "0x7f.1", "127.1", "[evil.example]", "1.2.3.4.5", ".local",
        "evil.example:80:80"})
    EXPECT_FALSE(is_private_host(host)) << host;
}

class OpenServer : public ::testing::Test {
 protected:
  static HttpReply ask(const TestServer& server, const std::string& host, const std::string& key = "") {
    return get(server, "/v1/models", "Host: " + host + (key.empty() ? "" : "\r\nAuthorization: Bearer " + key));
  }
  static HttpReply get(const TestServer& server, const std::string& path, const std::string& headers) {
    TestClient client(server.port());
    client.send("GET " + path + " HTTP/1.1\r\n" + headers + "\r\n\r\n");
    return client.read();
  }
};

TEST_F(OpenServer, IsNotReachedByANameThatAStrangerPointedAtIt) {
  ServerOptions options;
  options.allowed_hosts = {"model.example", ".in.example"};
  const TestServer server(options);
  for (const std::string host : {"localhost:8080", "127.0.0.1", "vl2", "model.example:8080", "a.in.example"})
    EXPECT_EQ(ask(server, host).status, 200) << host;
  for (const std::string host : {"evil.example", "evil.example:8080", "in.example", "model.example.evil.example"}) {
    const HttpReply reply = ask(server, host);
    EXPECT_EQ(reply.status, 403) << host;
    EXPECT_EQ(reply.error("code"), "host_not_allowed") << host;
  }
  // What needs no key tells nothing: probes may call the server as they like.
  EXPECT_EQ(get(server, "/health", "Host: evil.example").status, 200);
}

// A page of another site has no key.
TEST_F(OpenServer, IsOneWithoutKeys) {
  ServerOptions options;
  options.keys = {"secret"};
  const TestServer server(options);
  EXPECT_EQ(ask(server, "model.example", "secret").status, 200);
  EXPECT_EQ(ask(server, "model.example").status, 401);
}

TEST_F(OpenServer, MayHaveAnyName) {
  ServerOptions options;
  options.allowed_hosts = {"*"};
  EXPECT_EQ(ask(TestServer(options), "model.example").status, 200);
}

}  // namespace
}  // namespace vl2::server
