// Runs into an instruction that must not be reached.
__attribute__((export_name("_start"))) void start(void) { __builtin_trap(); }
