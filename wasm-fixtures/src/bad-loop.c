// Never ends.
__attribute__((export_name("_start"))) void start(void)
{
	for (volatile unsigned i = 0;; i++)
		;
}
