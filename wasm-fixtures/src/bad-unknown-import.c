// Asks for functions that no donor has.
__attribute__((import_module("env"), import_name("format_disk"))) void format_disk(void);
__attribute__((import_module("wasi_snapshot_preview1"), import_name("sock_connect"))) int sock_connect(int);

__attribute__((export_name("_start"))) void start(void)
{
	if (sock_connect(3) == 0)
		format_disk();
}
