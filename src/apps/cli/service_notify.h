// What a service manager is told: systemd's protocol of readiness, one datagram to the socket that $NOTIFY_SOCKET
// names.
#pragma once

#include <string_view>

namespace vl2::cli {

// "READY=1", "STOPPING=1", several lines are fine. True once it is sent; false where nobody waits for it, or cannot be
// reached, which is no reason to fail.
bool notify_service_manager(std::string_view state);

}  // namespace vl2::cli
