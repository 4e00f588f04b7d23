#include "apps/cli/interrupt.h"

#include <signal.h>

#include <csignal>

namespace vl2::cli {
namespace {

// A signal handler reaches nothing but globals.
volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int signal_number) {
  if (interrupted != 0) {
    ::signal(signal_number, SIG_DFL);
    ::raise(signal_number);
  }
  interrupted = 1;
}

}  // namespace

InterruptWatch::InterruptWatch() {
  forget();
  struct sigaction action = {};
  action.sa_handler = on_interrupt;  // without SA_RESTART: a read that waits comes back
  ::sigaction(SIGINT, &action, nullptr);
}

InterruptWatch::~InterruptWatch() { ::signal(SIGINT, SIG_DFL); }

bool InterruptWatch::requested() const { return interrupted != 0; }
void InterruptWatch::forget() { interrupted = 0; }

}  // namespace vl2::cli
