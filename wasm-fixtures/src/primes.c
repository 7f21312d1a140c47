// The primes of a window of 2^15 numbers that begins between 2^31 and
// 2^32 - 2^15, at a place given by the nonce: a segmented sieve of Eratosthenes.
// The answer is the primes as little-endian integers of 32 bits, in order.
#include "task.h"

#define WINDOW (1u << 15)
#define ROOT (1u << 16) // 2^32's

static void task(const u8 *nonce, u32 length)
{
	static u8 small[ROOT], composite[WINDOW];
	u32 start = (u32)((1ull << 31) + place(nonce, length) % ((1ull << 31) - WINDOW));
	for (u32 p = 2; p < ROOT; p++) {
		if (small[p])
			continue;
		for (u64 m = (u64)p * p; m < ROOT; m += p)
			small[m] = 1;
		for (u64 m = ((u64)start + p - 1) / p * p; m < (u64)start + WINDOW; m += p)
			composite[m - start] = 1;
	}
	for (u32 i = 0; i < WINDOW; i++) {
		if (composite[i])
			continue;
		u32 prime = start + i;
		u8 bytes[4] = {(u8)prime, (u8)(prime >> 8), (u8)(prime >> 16), (u8)(prime >> 24)};
		answer(bytes, sizeof bytes);
	}
}
