// Takes all memory there is, touching each page, and gives up when it gets no more.
__attribute__((export_name("_start"))) void start(void)
{
	for (;;) {
		unsigned long before = __builtin_wasm_memory_grow(0, 16);
		if (before == (unsigned long)-1)
			__builtin_trap();
		for (unsigned long page = before; page < before + 16; page++)
			*(volatile char *)(page << 16) = 1;
	}
}
