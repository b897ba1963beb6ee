#include "ringweave/cli/cli.h"

int main(int argc, char** argv) {
  return ringweave::cli::run({argv + 1, argv + argc}, {});
}
