/* Exchange two names for ever, as fast as the kernel can: renameat2(2), RENAME_EXCHANGE. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **names)
{
	if (count != 3)
		return 2;
	for (;;)
		if (syscall(SYS_renameat2, AT_FDCWD, names[1], AT_FDCWD, names[2], 2) != 0) {
			perror("renameat2");
			return 1;
		}
}
