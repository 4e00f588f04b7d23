// Closed doors of pictures (docs/server.md): places a client may not see through the server's eyes, and small files
// that become large.
#include <arpa/inet.h>
#include <sys/stat.h>

#include <atomic>
#include <cstring>

#include "apps/server/api_error.h"
#include "apps/server/remote_media.h"
#include "apps/server/server_test.h"
#include "core/base/temp_folder.h"
#include "core/image/encode.h"
#include "core/image/test_headers.h"

namespace vl2::server {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

std::string code_of(const std::string& url, const RemoteMediaOptions& options) {
  try {
    fetch_remote(url, options, "here");
    return "fetched";
  } catch (const ApiError& error) {
    return error.code_name();
  }
}

RemoteMediaOptions allowed() {
  RemoteMediaOptions options;
  options.allowed = true;
  options.time = std::chrono::milliseconds(3000);
  return options;
}

// However an address that is not public is written, nothing connects to it. Each of these names one: as a number in any
// base, as a name, within an IPv6 address.
TEST(SsrfDoors, NoSpellingOfAnAddressLeadsInside) {
  for (const std::string host : {
           "127.0.0.1",
           "127.1",
           "127.0.1",
           "2130706433",
           "0x7f000001",
           "0x7f.0.0.1",
           "0X7F.1",
           "0177.0.0.1",
           "017700000001",
           "0177.0x0.1",
           "127.0.0.1.",
           "127.0.0.01",
           "0",
           "0.0.0.0",
           "localhost",
           "LOCALHOST",
           "localhost.",
           "10.0.0.1",
           "0xa000001",
           "012.0.0.1",
           "172.16.0.1",
           "192.168.0.1",
           "3232235521",
           "100.64.0.1",
           // The services of clouds that hand out credentials.
           "169.254.169.254",
           "2852039166",
           "0xa9fea9fe",
           "0251.0376.0251.0376",
           "169.254.43518",
           "100.100.100.200",
           "192.0.0.192",
           "[fd00:ec2::254]",
           // IPv6: itself, link-local with and without a zone, private, and IPv4 within it.
           "[::1]",
           "[0:0:0:0:0:0:0:1]",
           "[::]",
           "[fe80::1]",
           "[fe80::1%25lo]",
           "[fc00::1]",
           "[fec0::1]",
           "[::ffff:127.0.0.1]",
           "[::ffff:7f00:1]",
           "[0:0:0:0:0:ffff:127.0.0.1]",
           "[::ffff:169.254.169.254]",
           "[::127.0.0.1]",
           "[64:ff9b::127.0.0.1]",
           "[64:ff9b::a9fe:a9fe]",
           "[64:ff9b:1::7f00:1]",
           "[2002:7f00:1::]",
           "[2002:a9fe:a9fe::1]",
           "[2001:0:7f00:1::]",
           "[2001:db8::1]",
           "[ff02::1]",
       }) {
    const std::string code = code_of("http://" + host + ":9/a.png", allowed());
    // Some are no address to the resolver of some systems; refused is what counts, and by whom.
    EXPECT_TRUE(code == "media_domain_not_allowed" || code == "invalid_image_url") << host << " " << code;
    RemoteMediaOptions watched = allowed();
    std::atomic<int> let_in{0};
    watched.admits = [&](const sockaddr& address) {
      const bool in = is_public_address(address);
      let_in += in ? 1 : 0;
      return in;
    };
    code_of("http://" + host + ":9/a.png", watched);
    EXPECT_EQ(let_in, 0) << host;
  }
}

TEST(SsrfDoors, UsersOtherSchemesAndOddBytesAreNoUrls) {
  const std::string nul(1, '\0');
  for (const std::string& url :
       {std::string("http://user@127.0.0.1/"), std::string("http://user:secret@127.0.0.1/"), std::string("http://:@x/"),
        std::string("http://example.org@127.0.0.1/"), std::string("ftp://127.0.0.1/a"),
        std::string("gopher://127.0.0.1:6379/_INFO"), std::string("dict://127.0.0.1:6379/INFO"),
        std::string("file:///etc/passwd"), std::string("ldap://127.0.0.1/"), std::string("smb://127.0.0.1/a"),
        std::string("scp://127.0.0.1/a"), std::string("http:"), std::string("http://"), std::string("//127.0.0.1/"),
        "http://127.0.0.1" + nul + ".example.org/", std::string("http://127.0.0.1\r\nX: y/"),
        std::string("http://127.0.0.1/ HTTP/1.1\r\nX: y"), std::string("http://127.0.0.1\t/"),
        "http://127.0.0.1/a" + nul + "b"})
    EXPECT_EQ(code_of(url, allowed()), "invalid_image_url") << url;
}

// Another machine, which is this one.
class OtherMachine {
 public:
  OtherMachine()
      : http_(
            HttpLimits{}, [this](HttpExchange& exchange) { answer(exchange); },
            [](HttpExchange& exchange, const Error&) { exchange.reply(400, "text/plain", "?"); }) {
    http_.start("127.0.0.1", 0);
  }
  std::string port() const { return fmt::format(":{}", http_.port()); }
  std::atomic<int> asked{0};
  std::string location;

 private:
  void answer(HttpExchange& exchange) {
    ++asked;
    if (exchange.head().path != "/redirect") return exchange.reply(200, "image/png", "a picture");
    exchange.add_header("Location", location);
    exchange.reply(302, "text/plain", "");
  }
  HttpServer http_;
};

// A name whose address changes after it was looked at: the look is at the very address that is connected to, each time.
TEST(SsrfDoors, ANameThatChangesItsAddressGainsNothing) {
  OtherMachine other;
  RemoteMediaOptions options = allowed();
  std::atomic<int> looks{0};
  std::string seen;
  options.admits = [&](const sockaddr& address) {
    sockaddr_in in = {};
    if (address.sa_family == AF_INET) std::memcpy(&in, &address, sizeof(in));
    if (address_text(address) != "127.0.0.1") return false;  // localhost is more than one
    seen = fmt::format("127.0.0.1:{}", ntohs(in.sin_port));
    return ++looks == 1;  // later, it is somewhere else
  };
  EXPECT_EQ(code_of("http://localhost" + other.port() + "/a.png", options), "fetched");
  EXPECT_EQ(seen, "127.0.0.1" + other.port());
  EXPECT_EQ(code_of("http://localhost" + other.port() + "/a.png", options), "media_domain_not_allowed");
  EXPECT_EQ(other.asked, 1);
  // The same host once more, on the way of a redirect.
  looks = 0;
  other.location = "http://localhost" + other.port() + "/a.png";
  EXPECT_EQ(code_of("http://localhost" + other.port() + "/redirect", options), "media_domain_not_allowed");
  EXPECT_EQ(other.asked, 2);
}

TEST(SsrfDoors, RedirectsLeadInsideInNoSpelling) {
  OtherMachine other;
  RemoteMediaOptions options = allowed();
  options.admits = [](const sockaddr& address) { return address_text(address) == "127.0.0.1"; };  // "public" here
  for (const std::string target :
       {"http://127.0.0.2/", "http://2130706434/", "http://0x7f.0.0.2/", "http://[::1]/", "http://[::ffff:127.0.0.2]/",
        "http://169.254.169.254/latest/meta-data/", "//127.0.0.2/a.png", "http://0.0.0.0/"}) {
    other.location = target;
    EXPECT_EQ(code_of("http://127.0.0.1" + other.port() + "/redirect", options), "media_domain_not_allowed") << target;
  }
  for (const std::string target : {"file:///etc/passwd", "gopher://127.0.0.1/", "http://user@127.0.0.1/", "data:,x"}) {
    other.location = target;
    EXPECT_EQ(code_of("http://127.0.0.1" + other.port() + "/redirect", options), "invalid_image_url") << target;
  }
}

class FileDoors : public testing::Test {
 protected:
  FileDoors() {
    std::filesystem::create_directories(media_ / "in");
    std::filesystem::create_directories(root_ / "media-secret");
    picture_ = encode_png(make_image(8, 8, 1, 2, 3));
    write_file_atomic(media_ / "in/a.png", picture_);
    write_file_atomic(root_ / "secret.png", picture_);
    write_file_atomic(root_ / "media-secret/a.png", picture_);
    std::filesystem::create_symlink(root_ / "secret.png", media_ / "out.png");
    std::filesystem::create_directory_symlink(root_.path(), media_ / "up");
    std::filesystem::create_symlink("loop.png", media_ / "loop.png");
    std::filesystem::create_symlink("/dev/zero", media_ / "zero.png");
    std::filesystem::create_symlink("/proc/self/environ", media_ / "environ.png");
    EXPECT_EQ(::mkfifo((media_ / "pipe.png").c_str(), 0600), 0);
    ServerOptions options;
    options.media_path = media_;
    server_ = std::make_unique<TestServer>(options);
  }
  HttpReply ask(const std::string& url) { return server_->post("/v1/images/plan", {{"images", {url}}}); }

  TempFolder root_;
  const std::filesystem::path media_ = root_ / "media";
  std::string picture_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(FileDoors, NoPathLeadsOutOfTheMediaFolder) {
  const std::string media = media_.string();
  EXPECT_EQ(ask("file://" + media + "/in/a.png").status, 200);
  EXPECT_EQ(ask("FILE://localhost" + media + "/in/../in//./a.png").status, 200);
  for (const std::string& path :
       {media + "/../secret.png", media + "/in/../../secret.png", media + "/%2e%2e/secret.png",
        media + "/..%2fsecret.png", media + "/in/%2E%2E/%2e./secret.png", media + "/out.png", media + "/up/secret.png",
        media + "/up/media/../secret.png", media + "-secret/a.png", media + "/loop.png", media + "/in/", media + "/in",
        media, media + "/.", media + "/in/a.png/", media + "/in/a.png/..", std::string("/"), std::string("//")}) {
    const HttpReply reply = ask("file://" + path);
    EXPECT_EQ(reply.status, 403) << path << reply.body;
    EXPECT_EQ(reply.error("code"), "media_domain_not_allowed");
    EXPECT_EQ(reply.body.find("secret"), std::string::npos) << reply.body;  // nothing is told of what is there
  }
}

TEST_F(FileDoors, DevicesPipesAndProcAreNoPictures) {
  const std::string media = media_.string();
  for (const std::string& path :
       {media + "/pipe.png", media + "/zero.png", media + "/environ.png", std::string("/dev/zero"),
        std::string("/dev/stdin"), std::string("/proc/self/environ"), std::string("/proc/self/fd/0"),
        std::string("/proc/self/root/etc/passwd"), "/proc/self/root" + root_.path().string() + "/secret.png"})
    EXPECT_EQ(ask("file://" + path).error("code"), "media_domain_not_allowed") << path;
}

TEST_F(FileDoors, BrokenEscapesAndNulsAreNoPaths) {
  const std::string media = media_.string();
  const std::string nul(1, '\0');
  for (const std::string& url :
       {"file://" + media + "/in/a.png%00.txt", "file://" + media + "/in/a.png" + nul + "/../../secret.png",
        "file://" + media + "/%2", "file://" + media + "/%zz", "file://" + media + "/%ff",
        "file://host" + media + "/in/a.png", "file:" + media + "/in/a.png",
        "file://" + media.substr(1) + "/in/a.png"}) {
    const HttpReply reply = ask(url);
    EXPECT_EQ(reply.status, 400) << url << reply.body;
    EXPECT_EQ(reply.error("code"), "invalid_image_url");
  }
}

// Files of a few hundred bytes that say they hold gigabytes, in every format.
TEST(BombDoors, HugePicturesAreRefusedByTheirHeaders) {
  TestServer server;
  for (const uint32_t side : {16384u, 60000u})
    for (const HeaderFile& file : header_files(side, side))
      for (const std::string path : {kChat, "/v1/images/plan"}) {
        const json picture = to_base64(file.bytes);
        const HttpReply reply = path == kChat ? server.post(path, chat({picture_part(picture), text_part("?")}))
                                              : server.post(path, {{"images", {picture}}});
        // Of the WebP it is seen first that its only frame is none.
        const bool damaged = file.name == std::string("WebP");
        EXPECT_EQ(reply.status, damaged ? 400 : 413) << file.name << reply.body;
        EXPECT_EQ(reply.error("code"), damaged ? "invalid_image" : "request_too_large");
      }
  EXPECT_EQ(server.engine->stats().tiles, 0);
}

TEST(BombDoors, HeadersWithoutTheirPixelsAreNoPictures) {
  TestServer server;
  for (const HeaderFile& file : header_files(9000, 9000)) {  // below the limit: only decoding tells
    const HttpReply reply = server.post(kChat, chat({picture_part(to_base64(file.bytes)), text_part("?")}));
    EXPECT_EQ(reply.status, 400) << file.name << reply.body;
    EXPECT_EQ(reply.error("code"), "invalid_image");
  }
}

TEST(BombDoors, PixelsOfARequestCountTogether) {
  TestServer server;
  const std::string half = to_base64(header_files(7500, 7500)[0].bytes);  // 56 million pixels
  const HttpReply reply = server.post("/v1/images/plan", {{"images", {half, half}}});
  EXPECT_EQ(reply.status, 413) << reply.body;
  EXPECT_EQ(reply.error("param"), "images[1]");
  EXPECT_EQ(server.post("/v1/images/plan", {{"images", {half}}}).status, 200);
}

TEST(BombDoors, PicturesOfARequestAreCountedBeforeTheyAreRead) {
  TestServer server;
  json many = json::array();
  for (int i = 0; i < 65; ++i) many.push_back(picture_part("this is no picture"));
  many.push_back(text_part("?"));
  const HttpReply reply = server.post(kChat, chat(many));
  EXPECT_EQ(reply.status, 413) << reply.body;
  EXPECT_EQ(reply.error("code"), "request_too_large");
}

}  // namespace
}  // namespace vl2::server
