// A device for tests, `sim:0` … `sim:7`, that knows which of its accesses to
// memory are ordered. It is torch's backend PrivateUse1, in host memory.
//
// Kernels run at once on the CPU, so values are always right. What a real
// device would run at the same time is found by vector clocks: streams and host
// threads are actors, every operation is a read or write of bytes by an actor,
// and events, synchronisation and blocking copies order actors. Two accesses of
// the same bytes, one of them a write, that nothing orders are a report, in
// whatever order the threads happened to run. The same goes for memory that is
// freed while a stream still uses it, and for fresh memory that a stream uses
// without having waited for the one that it was allocated on.
//
// Code under test needs nothing of this: it uses ATen, c10::Stream, c10::Event
// and the guards. Tests link the target ringweave_device_simulated and ask:
//
//   … run something on device(0) and device(1) …
//   EXPECT_THAT(take_reports(), IsEmpty());
//
// Two threads of the host are ordered by what they give each other in an event,
// and by the start and the join of a thread. A lock or a queue between them is
// not seen: say host_release() and host_acquire() there, or there are reports
// of accesses that are in order.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace ringweave::device::simulated {

inline constexpr int kDevices = 8;

/// The device sim:index.
inline c10::Device device(int index) {
  return {c10::DeviceType::PrivateUse1, static_cast<c10::DeviceIndex>(index)};
}

/// Two accesses that nothing orders.
struct Report {
  /// "read-after-write", "write-after-read", "write-after-write", "fresh
  /// memory" or "freed while in use"; "host " before it if one is the host's.
  std::string kind;
  std::string now;     ///< such as "aten::mm@sim:0/s3"
  std::string before;  ///< the access that the thread made first
  std::string where;   ///< memory and bytes: "sim:0#12 [0,64)"

  /// The same whichever of the two came first: that is chance where they are
  /// of two threads.
  std::string key() const;
  std::string text() const;
};
std::ostream& operator<<(std::ostream& out, const Report& report);

/// What was found since the last call, each key() once.
std::vector<Report> take_reports();

/// The host waits for all that was launched so far on any device, and forgets
/// reports: one test starts without the streams of another.
void settle();

/// Names a tensor's memory in reports. Memory is numbered otherwise, in the
/// order in which threads allocate it.
void label(const at::Tensor& tensor, std::string name);

/// An access by this thread that torch knows nothing of, by data_ptr(); of
/// memory of the device or pinned. `operation` has to live forever.
void host_access(const at::Tensor& tensor, bool writes, const char* operation);

/// Whether operations on CPU tensors in pinned memory are accesses of the host:
/// of this thread, of backward passes that it calls, and of threads that it
/// starts from now on. They are not at first.
void watch_host(bool on);

/// [actor]: how many of its operations are known to be done.
using Clock = std::vector<std::uint32_t>;

/// What this thread knows to be done, to be given to another thread, which
/// then knows it too.
Clock host_release();
void host_acquire(const Clock& clock);

struct Settings {
  /// Memory just allocated may have been freed a moment ago by work of its
  /// stream, so that other streams have to wait for that.
  bool check_fresh_memory = true;
  /// An event answers query() with false so many times after each record.
  int query_delay = 0;
};
/// Holds for all threads.
void configure(const Settings& settings);

}  // namespace ringweave::device::simulated
