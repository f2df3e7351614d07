// Runs kernels of a library on fibers, one a lane, and answers a parent that sends commands to its standard input.
// A lane runs until it meets others: as far ahead of them as can be.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

struct gate_ids {
  unsigned group[3], groups[3], lanes, lane, simdgroup, simd_lane, simd_width;
};
extern "C" {
gate_ids* gate_lane;
void gate_switch(void** save, void* to);
}

// Saves what a call keeps on the old stack and takes it from the new one.
#if defined(__x86_64__)
asm(R"(
.text
.globl gate_switch
gate_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
enum { SAVED = 6 };
#elif defined(__aarch64__)
asm(R"(
.text
.globl gate_switch
gate_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#else
#error "fibers are written for x86-64 and AArch64"
#endif

namespace {
enum class At { ready, barrier, collective, end };
struct Fiber {
  void* sp;
  char* stack;
  At at;
  int line, kind;
  gate_ids ids;
  unsigned char value[64];
};
const size_t STACK = 128 * 1024;
const unsigned WIDTH = 32;

std::vector<Fiber> fibers;
std::vector<unsigned char> snapshots;
Fiber* current;
void* scheduler;
std::string failure;
void (*body)(void* const*);
void* const* arguments;

void leave(At at) {
  current->at = at;
  gate_switch(&current->sp, scheduler);
}
void start() {
  body(arguments);
  leave(At::end);
  abort();
}
void reset(Fiber& f) {
  if (!f.stack) f.stack = (char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (f.stack == MAP_FAILED) { perror("stack"); exit(3); }
  void** sp = (void**)(f.stack + STACK - 64);
#if defined(__x86_64__)
  *--sp = nullptr;
  *--sp = (void*)start;
  for (int i = 0; i < SAVED; i++) *--sp = nullptr;
#else
  sp -= 20;
  memset(sp, 0, 160);
  sp[11] = (void*)start;
#endif
  f.sp = sp;
  f.at = At::ready;
}
void resume(Fiber& f) {
  current = &f;
  gate_lane = &f.ids;
  gate_switch(&scheduler, f.sp);
}
void failed(const char* format, int line, unsigned a, unsigned b) {
  char text[200];
  snprintf(text, sizeof text, format, line, a, b);
  failure = text;
}
}  // namespace

extern "C" {
void gate_fail(int line, const char* message) {
  if (failure.empty()) failure = "line " + std::to_string(line) + ": " + message;
  leave(At::end);
}
void gate_barrier(int line) {
  current->line = line;
  leave(At::barrier);
}
const unsigned char* gate_collective(int line, int kind, const void* value, unsigned bytes) {
  memcpy(current->value, value, bytes);
  current->line = line;
  current->kind = kind;
  Fiber* me = current;
  leave(At::collective);
  return &snapshots[size_t(me->ids.simdgroup) * WIDTH * 64];
}
}

namespace {
// Lets the lanes of a simdgroup run until all have met at a barrier of the threadgroup, or ended.
void simdgroup(unsigned s, unsigned lanes, unsigned order, std::mt19937& random) {
  unsigned lo = s * WIDTH, count = std::min(WIDTH, lanes - lo);
  unsigned turn[WIDTH];
  std::iota(turn, turn + count, lo);
  if (order == 1) std::reverse(turn, turn + count);
  for (;;) {
    if (order > 1) std::shuffle(turn, turn + count, random);
    for (unsigned i = 0; i < count; i++) {
      Fiber& f = fibers[turn[i]];
      if (f.at == At::ready) resume(f);
      if (!failure.empty()) return;
    }
    unsigned met = 0, ended = 0;
    Fiber* first = nullptr;
    bool same = true;
    for (unsigned i = lo; i < lo + count; i++) {
      Fiber& f = fibers[i];
      ended += f.at == At::end;
      if (f.at != At::collective) continue;
      met++;
      if (!first) first = &f;
      same &= f.line == first->line && f.kind == first->kind;
    }
    if (!met) return;
    if (!same || met != count) return failed("line %d: a divergent simdgroup operation: %u of %u lanes meet", first->line, met, count);
    for (unsigned i = 0; i < count; i++) {
      memcpy(&snapshots[(size_t(lo) + i) * 64], fibers[lo + i].value, 64);
      fibers[lo + i].at = At::ready;
    }
  }
}

void group(const unsigned at[3], const unsigned groups[3], unsigned lanes, unsigned order, std::mt19937& random) {
  for (unsigned i = 0; i < lanes; i++) {
    Fiber& f = fibers[i];
    reset(f);
    f.ids = {{at[0], at[1], at[2]}, {groups[0], groups[1], groups[2]}, lanes, i, i / WIDTH, i % WIDTH, WIDTH};
  }
  unsigned simdgroups = (lanes + WIDTH - 1) / WIDTH;
  std::vector<unsigned> turn(simdgroups);
  std::iota(turn.begin(), turn.end(), 0);
  if (order == 1) std::reverse(turn.begin(), turn.end());
  for (;;) {
    if (order > 1) std::shuffle(turn.begin(), turn.end(), random);
    for (unsigned s : turn) {
      simdgroup(s, lanes, order, random);
      if (!failure.empty()) return;
    }
    unsigned waiting = 0, line = 0;
    bool same = true;
    for (unsigned i = 0; i < lanes; i++) {
      if (fibers[i].at != At::barrier) continue;
      if (!waiting++) line = fibers[i].line;
      same &= unsigned(fibers[i].line) == line;
    }
    if (!waiting) return;
    if (waiting != lanes || !same) return failed("line %d: a divergent threadgroup_barrier: %u of %u threads wait at one", line, same ? waiting : 0, lanes);
    for (unsigned i = 0; i < lanes; i++) fibers[i].at = At::ready;
  }
}

void read_all(void* to, size_t n) {
  if (n && fread(to, 1, n, stdin) != n) exit(0);
}
template <class T> T take() {
  T v;
  read_all(&v, sizeof v);
  return v;
}
std::string text() {
  std::string s(take<uint32_t>(), 0);
  read_all(&s[0], s.size());
  return s;
}
template <class T> void give(T v) { fwrite(&v, sizeof v, 1, stdout); }
void answer(const std::string& s) {
  give<uint32_t>(s.size());
  fwrite(s.data(), 1, s.size(), stdout);
}

struct Block {
  char* at;
  uint64_t bytes;
};
std::vector<Block> blocks;

struct Bound {
  uint32_t index, block;
  uint64_t offset, bytes;
};

// What a kernel is bound to: the blocks themselves, or copies of just those bytes, beyond which a sanitizer sees.
std::string launch() {
  static std::map<std::string, void*> libraries;
  std::string path = text(), symbol = text();
  unsigned groups[3] = {take<uint32_t>(), take<uint32_t>(), take<uint32_t>()};
  unsigned lanes = take<uint32_t>(), order = take<uint32_t>(), count = take<uint32_t>();
  std::vector<Bound> bound(count);
  for (Bound& b : bound) b = {take<uint32_t>(), take<uint32_t>(), take<uint64_t>(), take<uint64_t>()};
  void*& library = libraries[path];
  if (!library) library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return dlerror();
  body = (void (*)(void* const*))dlsym(library, symbol.c_str());
  if (!body) return "no kernel " + symbol;
  auto memory = (void (*)(int))dlsym(library, (symbol + "_memory").c_str());
  void* places[31] = {};
  for (const Bound& b : bound) {
    char* at = blocks[b.block].at + b.offset;
#ifdef GATE_FLAT
    char* copy = (char*)malloc(b.bytes);
    memcpy(copy, at, b.bytes);
    at = copy;
#endif
    places[b.index] = at;
  }
  arguments = places;
  if (fibers.size() < lanes) fibers.resize(lanes);
  snapshots.resize(std::max<size_t>(snapshots.size(), (size_t(lanes) + WIDTH) * 64));
  failure.clear();
  std::mt19937 random(order);
  std::vector<uint64_t> all(uint64_t(groups[0]) * groups[1] * groups[2]);
  std::iota(all.begin(), all.end(), 0);
  if (order == 1) std::reverse(all.begin(), all.end());
  if (order > 1) std::shuffle(all.begin(), all.end(), random);
  // Threadgroup memory holds something else in each order: a result that depends on it does on the order.
  const int fills[] = {0xFF, 0x7F, 0x2A};
  for (uint64_t g : all) {
    unsigned at[3] = {unsigned(g % groups[0]), unsigned(g / groups[0] % groups[1]), unsigned(g / groups[0] / groups[1])};
    if (memory) memory(fills[std::min(order, 2u)]);
    group(at, groups, lanes, order, random);
    if (!failure.empty()) break;
  }
#ifdef GATE_FLAT
  for (const Bound& b : bound) {
    memcpy(blocks[b.block].at + b.offset, places[b.index], b.bytes);
    free(places[b.index]);
  }
#endif
  return failure;
}
}  // namespace

int main() {
  for (;;) {
    switch (take<uint32_t>()) {
      case 1: {
        uint64_t bytes = take<uint64_t>();
        char* at = (char*)aligned_alloc(256, (bytes + 256) / 256 * 256);
        if (!at) return 3;
        memset(at, 0, (bytes + 256) / 256 * 256);
        blocks.push_back({at, bytes});
        give<uint32_t>(blocks.size() - 1);
        break;
      }
      case 2: {
        uint32_t block = take<uint32_t>();
        uint64_t offset = take<uint64_t>(), bytes = take<uint64_t>();
        read_all(blocks[block].at + offset, bytes);
        break;
      }
      case 3: {
        uint32_t block = take<uint32_t>();
        uint64_t offset = take<uint64_t>(), bytes = take<uint64_t>();
        fwrite(blocks[block].at + offset, 1, bytes, stdout);
        break;
      }
      case 4: answer(launch()); break;
      case 5: {
        uint32_t block = take<uint32_t>();
        free(blocks[block].at);
        blocks[block] = {nullptr, 0};
        break;
      }
      default: return 2;
    }
    fflush(stdout);
  }
}
