#include "ringweave/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace ringweave {

void for_each_on_all_cores(int count, const std::function<void(int)>& task) {
  std::atomic<int> next = 0;
  std::mutex mutex;
  std::exception_ptr thrown;
  const auto work = [&] {
    for (int i = next++; i < count; i = next++) {
      try {
        task(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!thrown) thrown = std::current_exception();
        next = count;
      }
    }
  };
  {
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    std::vector<std::jthread> others;
    try {
      for (int i = 1; i < std::min(cores, count); ++i) {
        others.emplace_back(work);
      }
    } catch (const std::system_error&) {  // no more threads: these will do
    }
    work();
  }
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace ringweave
