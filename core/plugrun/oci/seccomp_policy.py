"""Which system calls a container may make: the engine's own table, rendered by :mod:`plugrun.oci.seccomp`.

Two refusals differ for a reason. ``EPERM`` is for calls that exist and are refused. ``ENOSYS``, the default, is for
what nobody here has decided on: the C library falls back to an older call on ENOSYS but fails on EPERM, and the host's
libseccomp may be older than the image's C library and not know a name at all.

Names, numbers and what a call needs: syscalls(2), the calls' own manual pages, capabilities(7) and the kernel's
headers. A name that an architecture lacks is skipped there; those that end in 32, 64 or time64 are variants of 32-bit
architectures.
"""

from __future__ import annotations

from collections.abc import Mapping

# Calls that touch only what the caller can reach anyway, or that check its capabilities themselves.
_FILES = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
    ioctl lchown lchown32 link linkat listmount _llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat
    name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv rename renameat renameat2 rmdir sendfile sendfile64 stat stat64 statfs statfs64 statmount
    statx symlink symlinkat sync sync_file_range syncfs truncate truncate64 umask unlink unlinkat utime utimensat
    utimensat_time64 utimes write writev
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
    lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
    eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 poll ppoll ppoll_time64
    pselect6 pselect6_time64 select signalfd signalfd4 splice tee timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 vmsplice
"""
_MEMORY = """
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
    mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
    capget capset execve execveat exit exit_group fork getcpu getegid getegid32 geteuid geteuid32 getgid getgid32
    getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid
    getresuid32 getrlimit getrusage getsid gettid getuid getuid32 get_thread_area ioprio_get ioprio_set kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open pidfd_send_signal prctl prlimit64
    process_mrelease process_vm_readv process_vm_writev ptrace rseq sched_getaffinity sched_getattr sched_getparam
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsgid32 setfsuid
    setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32
    setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 set_thread_area set_tid_address sysinfo
    times ugetrlimit uname vfork wait4 waitid waitpid
"""
_SIGNALS_AND_TIME = """
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep pause restart_syscall rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo setitimer sigaltstack sigprocmask sigreturn tgkill time timer_create
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 tkill
"""
_TALKING = """
    accept accept4 bind connect futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getpeername
    get_robust_list getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg
    recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto
    set_robust_list setsockopt shmat shmctl shmdt shmget shutdown socketpair
"""
ALLOWED: tuple[str, ...] = tuple(f"{_FILES} {_WAITING} {_MEMORY} {_PROCESSES} {_SIGNALS_AND_TIME} {_TALKING}".split())

# Refused unless one of the container's capabilities opens them. Most check the same capability themselves; the ones
# that do not (unshare, clone with namespace flags) let anybody become root of a user namespace, and so reach kernel
# code that is otherwise root's.
_SYS_ADMIN = """
    bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr
    mount mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname
    sethostname setns syslog umount umount2 unshare
"""
BY_CAPABILITY: Mapping[str, tuple[str, ...]] = {
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    "CAP_SYS_MODULE": ("delete_module", "finit_module", "init_module"),
    "CAP_SYS_RAWIO": ("ioperm", "iopl"),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_ADMIN": tuple(_SYS_ADMIN.split()),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYS_TIME": ("clock_settime", "clock_settime64", "settimeofday", "stime"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
    "CAP_SYSLOG": ("syslog",),
    "CAP_PERFMON": ("perf_event_open",),
    "CAP_BPF": ("bpf",),
}

# Refused whatever the capabilities: no namespace (keyrings), a record of kernel holes (io_uring, userfaultfd), or the
# whole machine (kexec, swap). socketcall(2), the way of 32-bit programs with an old C library, keeps the address
# family behind a pointer that no filter can follow. clone3 and what is long gone from the kernel get ENOSYS: without
# clone3 the C library uses clone, whose flags a filter can see.
_REFUSED = """
    add_key io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl migrate_pages move_pages
    pivot_root request_key socketcall swapoff swapon userfaultfd
"""
REFUSED: tuple[str, ...] = tuple(_REFUSED.split())

# The flags of clone(2) that make a namespace: cgroup, uts, ipc, user, pid, net, mount.
NAMESPACE_FLAGS = (0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x0002_0000)

# personality(2): Linux, a 32-bit uname, a 2.6 uname, both, and the question which one it is. The flags for security
# holes of old (READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE) stay out.
PERSONALITIES = (0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF)

# socket(2) families: unix inet inet6 key netlink packet rds pppox ib can tipc smc xdp. Without: AF_ALG
# (CVE-2026-31431), AF_VSOCK (talks to the hypervisor, past network namespaces), and those that no namespace confines or
# hardly anybody uses, whose modules the kernel would load for the asking.
FAMILIES = (1, 2, 10, 15, 16, 17, 21, 24, 27, 29, 30, 43, 44)

# Machine (uname -m) → its name in Docker's profiles, its libseccomp name and those of what else it executes. x32 is not
# there: kernels have it switched off, and a third table costs each start 10 ms.
MACHINES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "x86_64": ("amd64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")),
    "i686": ("x86", ("SCMP_ARCH_X86",)),
    "aarch64": ("arm64", ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")),
    "armv7l": ("arm", ("SCMP_ARCH_ARM",)),
    "riscv64": ("riscv64", ("SCMP_ARCH_RISCV64",)),
    "ppc64le": ("ppc64le", ("SCMP_ARCH_PPC64LE",)),
    "s390x": ("s390x", ("SCMP_ARCH_S390X", "SCMP_ARCH_S390")),
    "loongarch64": ("loong64", ("SCMP_ARCH_LOONGARCH64",)),
}
_X86 = ("arch_prctl", "modify_ldt", "uprobe", "uretprobe")
_ARM = ("arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2")
BY_MACHINE: Mapping[str, tuple[str, ...]] = {
    "x86_64": _X86,
    "i686": _X86,
    "aarch64": _ARM,
    "armv7l": _ARM,
    "riscv64": ("riscv_flush_icache", "riscv_hwprobe"),
    "ppc64le": ("swapcontext", "sync_file_range2"),
    "s390x": ("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"),
}
