/* A shared library that tells when somebody loads it. */
#include <fcntl.h>

__attribute__((constructor)) static void loaded(void)
{
	creat(MARKER, 0600);
}
