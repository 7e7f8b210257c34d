/* Makes system calls that a container should not get, and some that it must get, and prints "NAME ERRNO" for each
 * (0 for success). Each call is made in a child of its own, because some change the caller. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE(name, call) \
    do { \
        fflush(stdout); \
        pid_t child = fork(); \
        if (child == 0) { \
            errno = 0; \
            long result = (call); \
            _exit(result < 0 ? errno : 0); \
        } \
        int status = 0; \
        waitpid(child, &status, 0); \
        printf("%s %d\n", name, WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status)); \
    } while (0)

static long clone_with(unsigned long flag) {
    long child = syscall(SYS_clone, flag | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return child;
}

/* A 32-bit system call from a 64-bit program: the other table of the filter. */
static long call32(long number, long first, long second, long third) {
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third)
                     : "memory", "r8", "r9", "r10", "r11");
    if ((int)result >= 0) return 0;
    errno = -(int)result;
    return -1;
#else
    errno = ENOTSUP;
    return -1;
#endif
}

static long socketcall32(int call, int first, int second, int third) {
#ifdef MAP_32BIT
    uint32_t *words = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    words[0] = first, words[1] = second, words[2] = third;
    words[3] = (uint32_t)(uintptr_t)(words + 8); /* where socketpair writes */
    return call32(102, call, (long)(uintptr_t)words, 0);
#else
    return call32(102, call, 0, 0);
#endif
}

int main(void) {
    static const struct { const char *name; unsigned long flag; } namespaces[] = {
        {"cgroup", CLONE_NEWCGROUP}, {"uts", CLONE_NEWUTS}, {"ipc", CLONE_NEWIPC}, {"user", CLONE_NEWUSER},
        {"pid", CLONE_NEWPID}, {"net", CLONE_NEWNET}, {"mnt", CLONE_NEWNS},
    };
    char name[64];
    for (unsigned i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
        snprintf(name, sizeof name, "unshare_%s", namespaces[i].name);
        PROBE(name, unshare(namespaces[i].flag));
        snprintf(name, sizeof name, "clone_%s", namespaces[i].name);
        PROBE(name, clone_with(namespaces[i].flag));
        snprintf(name, sizeof name, "clone_user_%s", namespaces[i].name);
        PROBE(name, clone_with(namespaces[i].flag | CLONE_NEWUSER));
    }
    for (int family = 0; family <= 46; family++) {
        snprintf(name, sizeof name, "socket_%d", family);
        PROBE(name, syscall(SYS_socket, family, SOCK_DGRAM, 0));
    }
    PROBE("socket_vsock_high", syscall(SYS_socket, 0x700000028L, SOCK_STREAM, 0)); /* the kernel drops the upper half */
    PROBE("socket32_unix", call32(359, AF_UNIX, SOCK_STREAM, 0));
    PROBE("socket32_vsock", call32(359, 40, SOCK_STREAM, 0));
    PROBE("socketcall32_unix", socketcall32(1, AF_UNIX, SOCK_STREAM, 0));
    PROBE("socketcall32_vsock", socketcall32(1, 40, SOCK_STREAM, 0));
    PROBE("getpid32", call32(20, 0, 0, 0));
    PROBE("unshare32_user", call32(310, CLONE_NEWUSER, 0, 0));
    PROBE("clone", clone_with(0));
    PROBE("clone3", syscall(SYS_clone3, 0, 0));
    PROBE("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    PROBE("add_key", syscall(SYS_add_key, "user", "probe", "x", 1, -3));
    PROBE("request_key", syscall(SYS_request_key, "user", "probe", 0, 0));
    PROBE("io_uring_setup", syscall(SYS_io_uring_setup, 1, 0));
    PROBE("io_uring_enter", syscall(SYS_io_uring_enter, -1, 0, 0, 0, 0, 0));
    PROBE("io_uring_register", syscall(SYS_io_uring_register, -1, 0, 0, 0));
    PROBE("userfaultfd", syscall(SYS_userfaultfd, 1)); /* UFFD_USER_MODE_ONLY: needs no privilege */
    PROBE("bpf", syscall(SYS_bpf, 99, 0, 0));
    PROBE("perf_event_open", syscall(SYS_perf_event_open, 0, 0, -1, -1, 0));
    PROBE("mount", syscall(SYS_mount, 0, 0, 0, 0, 0));
    PROBE("move_mount", syscall(SYS_move_mount, -1, "", -1, "", 0));
    PROBE("open_tree", syscall(SYS_open_tree, -1, "", 0));
    PROBE("fsopen", syscall(SYS_fsopen, 0, 0));
    PROBE("pivot_root", syscall(SYS_pivot_root, "", ""));
    PROBE("setns", syscall(SYS_setns, -1, 0));
    PROBE("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, 0, 0));
    PROBE("kexec_load", syscall(SYS_kexec_load, 0, 999, 0, 0xffff));
    PROBE("swapon", syscall(SYS_swapon, "", 0));
    PROBE("init_module", syscall(SYS_init_module, 0, 0, 0));
    PROBE("syslog", syscall(SYS_syslog, 10, 0, 0));
    PROBE("quotactl", syscall(SYS_quotactl, -1, 0, 0, 0));
    PROBE("sethostname", syscall(SYS_sethostname, "x", -1));
    PROBE("settimeofday", syscall(SYS_settimeofday, 1, 0));
    PROBE("personality_query", personality(0xffffffff));
    PROBE("personality_32", personality(PER_LINUX32));
    PROBE("personality_no_randomize", personality(ADDR_NO_RANDOMIZE));
    PROBE("personality_read_implies_exec", personality(READ_IMPLIES_EXEC));
    PROBE("ptrace_traceme", ptrace(PTRACE_TRACEME, 0, 0, 0));
    PROBE("openat2", syscall(SYS_openat2, -1, 0, 0, 0));
    PROBE("fchmodat2", syscall(452, -1, "", 0, 0));
    PROBE("unknown", syscall(9999));
    return 0;
}
