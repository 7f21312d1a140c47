// The two ways in which a fixture gets its nonce and gives its answer. A
// fixture is one function, task(). Compiled with -DABI1 it imports nothing: the
// submitter writes the nonce into the data segment that begins with MARKER, and
// the answer lies at address 0 (the linker keeps the memory below ANSWER_MAX
// free of anything else). Without, it speaks WASI preview 1: the nonce is on
// stdin and the answer goes to stdout.
#ifndef TASK_H
#define TASK_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define NONCE_MAX 64
#define ANSWER_MAX 65536 // --global-base in the Makefile

static void task(const u8 *nonce, u32 length);

#ifdef ABI1

static struct {
	char marker[16];
	u8 length;
	u8 nonce[NONCE_MAX];
} input = {"wce2e-nonce-here", 0, {0}};

static u32 answer_length;

static inline void answer(const u8 *bytes, u32 length)
{
	u8 *to = (u8 *)answer_length; // behind what is there already
	for (u32 i = 0; i < length; i++)
		to[i] = bytes[i];
	answer_length += length;
}

__attribute__((export_name("_start"))) void start(void)
{
	// The compiler must not take the data that is patched for a constant.
	volatile u8 *patched = &input.length;
	static u8 nonce[NONCE_MAX];
	u32 length = patched[0];
	for (u32 i = 0; i < length && i < NONCE_MAX; i++)
		nonce[i] = patched[1 + i];
	task(nonce, length);
}

__attribute__((export_name("output_len"))) u32 output_len(void) { return answer_length; }

#else

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(name)))

struct iovec {
	u8 *base;
	u32 length;
};

WASI("fd_read") u32 fd_read(u32 fd, const struct iovec *to, u32 count, u32 *got);
WASI("fd_write") u32 fd_write(u32 fd, const struct iovec *from, u32 count, u32 *put);
WASI("proc_exit") _Noreturn void proc_exit(u32 code);

static inline void answer(const u8 *bytes, u32 length)
{
	while (length > 0) {
		struct iovec from = {(u8 *)bytes, length};
		u32 put = 0;
		if (fd_write(1, &from, 1, &put) != 0)
			proc_exit(2);
		bytes += put;
		length -= put;
	}
}

__attribute__((export_name("_start"))) void start(void)
{
	static u8 nonce[NONCE_MAX + 1];
	u32 length = 0;
	for (;;) {
		struct iovec to = {nonce + length, sizeof nonce - length};
		u32 got = 0;
		if (fd_read(0, &to, 1, &got) != 0)
			proc_exit(1);
		if (got == 0)
			break;
		length += got;
		if (length > NONCE_MAX)
			proc_exit(3);
	}
	task(nonce, length);
}

#endif

// The place that a nonce names: FNV-1a of its bytes, so that each of them matters.
static inline u64 place(const u8 *nonce, u32 length)
{
	u64 hash = 0xcbf29ce484222325;
	for (u32 i = 0; i < length; i++)
		hash = (hash ^ nonce[i]) * 0x100000001b3;
	return hash;
}

#endif
