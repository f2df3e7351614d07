// Runs compiled kernels on a machine other than the compiler's: code, buffers and calls come in on standard input, the
// buffers go out on standard output. Every number is a little-endian 64-bit word; bytes are padded to whole words.
//
//   length of the code, code
//   number of buffers, for each its length and bytes
//   number of scalars, the scalars
//   number of calls, for each: offset, first task, end, bytes of group memory, number of counters, the counters
//
// Ends with 3 if a kernel stores past the end of its memory.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// Alignment of buffers, and the least number of bytes behind them that nothing may touch.
#define LINE 256
#define GUARD 0xA5

typedef void (*thunk)(const uint64_t *record, uint8_t *slot, int64_t lo, int64_t hi);

struct memory {
    uint8_t *bytes;
    uint64_t length;
    uint64_t size;
};

static void fail(int code, const char *message) {
    fprintf(stderr, "runner: %s\n", message);
    exit(code);
}

static void take(void *to, uint64_t length) {
    if (length > 0 && fread(to, length, 1, stdin) != 1) fail(2, "the input ends early");
}

static uint64_t word(void) {
    uint64_t value;
    take(&value, sizeof value);
    return value;
}

static void take_padded(void *to, uint64_t length) {
    uint8_t padding[8];
    take(to, length);
    take(padding, -length % 8);
}

static struct memory make(uint64_t length) {
    struct memory m = {NULL, length, (length + LINE - 1) / LINE * LINE + LINE};
    m.bytes = aligned_alloc(LINE, m.size);
    if (!m.bytes) fail(2, "no memory");
    memset(m.bytes, GUARD, m.size);
    return m;
}

static void check(const struct memory *m, const char *what) {
    for (uint64_t i = m->length; i < m->size; i++)
        if (m->bytes[i] != GUARD) fail(3, what);
}

int main(void) {
    uint64_t length = word();
    uint64_t mapped = (length + 4095) / 4096 * 4096 + 4096;
    uint8_t *code = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) fail(2, "no memory");
    take_padded(code, length);
    if (mprotect(code, mapped, PROT_READ | PROT_EXEC) != 0) fail(2, "the code cannot be made executable");
    __builtin___clear_cache((char *)code, (char *)code + length);

    uint64_t buffers = word();
    struct memory *memory = calloc(buffers + 1, sizeof *memory);
    uint64_t *record = calloc(buffers + 1, sizeof *record);
    if (!memory || !record) fail(2, "no memory");
    for (uint64_t b = 0; b < buffers; b++) {
        memory[b] = make(word());
        take_padded(memory[b].bytes, memory[b].length);
        record[b] = (uint64_t)(uintptr_t)memory[b].bytes;
    }
    uint64_t scalars = word();
    record = realloc(record, (buffers + scalars + 1) * sizeof *record);
    if (!record) fail(2, "no memory");
    take(record + buffers, scalars * sizeof *record);

    for (uint64_t calls = word(); calls > 0; calls--) {
        uint64_t offset = word();
        int64_t lo = (int64_t)word(), hi = (int64_t)word();
        struct memory slot = make(word());
        uint64_t counters = word();
        record = realloc(record, (buffers + scalars + counters + 1) * sizeof *record);
        if (!record) fail(2, "no memory");
        take(record + buffers + scalars, counters * sizeof *record);
        ((thunk)(code + offset))(record, slot.bytes, lo, hi);
        check(&slot, "a store past the end of group memory");
        free(slot.bytes);
    }
    for (uint64_t b = 0; b < buffers; b++) {
        check(&memory[b], "a store past the end of a buffer");
        if (memory[b].length > 0 && fwrite(memory[b].bytes, memory[b].length, 1, stdout) != 1)
            fail(2, "the output cannot be written");
    }
    return fflush(stdout) == 0 ? 0 : 2;
}
