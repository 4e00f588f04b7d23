#include "apps/cli/service_notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string>

namespace vl2::cli {

bool notify_service_manager(std::string_view state) {
  const char* variable = std::getenv("NOTIFY_SOCKET");
  const std::string path = variable != nullptr ? variable : "";
  sockaddr_un address = {};
  // "@name" is one of the abstract ones, whose first byte is zero; vsock and relative paths are not for us.
  if (path.size() < 2 || path.size() >= sizeof(address.sun_path) || (path.front() != '/' && path.front() != '@'))
    return false;
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  const bool abstract = path.front() == '@';
  if (abstract) address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  const int descriptor = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return false;
  ssize_t sent = 0;
  do {
    sent = ::sendto(descriptor, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                    size);
  } while (sent < 0 && errno == EINTR);
  ::close(descriptor);
  return sent == static_cast<ssize_t>(state.size());
}

}  // namespace vl2::cli
