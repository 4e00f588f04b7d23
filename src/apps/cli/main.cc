#include <cstdio>

int main() {
  std::puts("vl2");
  return 0;
}
