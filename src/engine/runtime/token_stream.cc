#include "engine/runtime/token_stream.h"

#include <utility>

#include "engine/runtime/channels.h"

namespace vl2 {

TokenStream::TokenStream(std::shared_ptr<TokenChannel> channel) : channel_(std::move(channel)) {}
TokenStream::~TokenStream() { channel_->cancel(); }
std::optional<TokenEvent> TokenStream::next() { return channel_->next(); }
bool TokenStream::wait_for(std::chrono::milliseconds time) { return channel_->wait_for(time); }
void TokenStream::cancel() { channel_->cancel(); }
const Answer& TokenStream::answer() { return channel_->answer(); }

}  // namespace vl2
