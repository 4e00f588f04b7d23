#include "engine/runtime/current_error.h"

#include <exception>
#include <new>

namespace vl2 {

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::kOutOfMemory, "no memory is left for this request; use smaller or fewer pictures");
  } catch (const std::exception& error) {
    return Error(ErrorCode::kInternal, error.what());
  } catch (...) {
    return Error(ErrorCode::kInternal, "unknown exception in the engine");
  }
}

}  // namespace vl2
