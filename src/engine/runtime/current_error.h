// Any exception as an Error, so that what one request threw can end that request and nothing else.
#pragma once

#include "core/base/error.h"

namespace vl2 {

// Inside a catch block only.
Error current_error();

}  // namespace vl2
