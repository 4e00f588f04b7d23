#include "apps/cli/service_notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/base/temp_folder.h"

namespace vl2::cli {
namespace {

// What systemd has at its end; `name` as in $NOTIFY_SOCKET.
class ManagerSocket {
 public:
  explicit ManagerSocket(const std::string& name) : socket_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name.front() == '@') address.sun_path[0] = '\0';
    bound_ = ::bind(socket_, reinterpret_cast<sockaddr*>(&address),
                    static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())) == 0;
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  ~ManagerSocket() {
    ::unsetenv("NOTIFY_SOCKET");
    ::close(socket_);
  }
  ManagerSocket(const ManagerSocket&) = delete;
  ManagerSocket& operator=(const ManagerSocket&) = delete;
  bool bound() const { return bound_; }
  std::string read() {
    std::array<char, 256> bytes{};
    const ssize_t count = ::recv(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    return count < 0 ? "nothing" : std::string(bytes.data(), static_cast<size_t>(count));
  }

 private:
  int socket_;
  bool bound_ = false;
};

TEST(ServiceNotify, SendsOneDatagram) {
  const TempFolder folder;
  ManagerSocket manager((folder / "notify").string());
  ASSERT_TRUE(manager.bound());
  EXPECT_TRUE(notify_service_manager("READY=1\nSTATUS=serving nano"));
  EXPECT_EQ(manager.read(), "READY=1\nSTATUS=serving nano");
  EXPECT_EQ(manager.read(), "nothing");
}

TEST(ServiceNotify, ReachesAbstractSockets) {
  ManagerSocket manager("@vl2-notify-test-" + std::to_string(::getpid()));
  ASSERT_TRUE(manager.bound());
  EXPECT_TRUE(notify_service_manager("STOPPING=1"));
  EXPECT_EQ(manager.read(), "STOPPING=1");
}

TEST(ServiceNotify, IsQuietWhereNobodyListens) {
  EXPECT_FALSE(notify_service_manager("READY=1"));
  for (const std::string& name : {std::string("/no/such/socket"), std::string("relative"), std::string("vsock:2:1234"),
                                  std::string("/"), "/" + std::string(200, 'x')}) {
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    EXPECT_FALSE(notify_service_manager("READY=1")) << name;
  }
  ::unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace vl2::cli
