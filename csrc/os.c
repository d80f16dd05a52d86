/* os.c - the core's only system calls; see os.h. */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int pm__os_memfd(uint64_t size, int *out)
{
    int fd = memfd_create("plasmid", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return PM_ESYS;
    /* No F_SEAL_FUTURE_WRITE: readers are held off by their read-only maps, and it would forbid
     * giving pages back. */
    if (ftruncate(fd, (off_t)size) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
        int e = errno;
        close(fd);
        errno = e;
        return PM_ESYS;
    }
    *out = fd;
    return PM_OK;
}

int pm__os_size(int fd, uint64_t *size)
{
    struct stat st;
    if (fstat(fd, &st))
        return PM_ESYS;
    *size = (uint64_t)st.st_size;
    return PM_OK;
}

pm_file pm__os_file(int fd)
{
    struct stat st;
    int e = errno; /* the caller may be about to tell of another error */
    bool known = fstat(fd, &st) == 0;
    errno = e;
    return known ? (pm_file){st.st_dev, st.st_ino} : (pm_file){0, 0};
}

bool pm__os_is_file(int fd, pm_file file)
{
    pm_file now = pm__os_file(fd);
    return now.device == file.device && now.inode == file.inode;
}

bool pm__os_is_event(int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

void pm__os_close_event(int fd)
{
    if (pm__os_is_event(fd))
        close(fd);
}

int pm__os_map(int fd, uint64_t offset, uint64_t len, bool writable, char **out)
{
    void *at = mmap(NULL, len, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                    MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
    if (at == MAP_FAILED)
        return PM_ESYS;
    madvise(at, len, MADV_DONTDUMP);
    madvise(at, len, MADV_DONTFORK);
    *out = at;
    return PM_OK;
}

void pm__os_unmap(char *at, uint64_t len)
{
    munmap(at, len);
}

int pm__os_pwrite(int fd, const void *data, uint64_t len, uint64_t offset)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return PM_ESYS;
        p += n;
        len -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return PM_OK;
}

int pm__os_pread(int fd, void *data, uint64_t len, uint64_t offset)
{
    char *p = data;
    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return PM_ELOST;
        p += n;
        len -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return PM_OK;
}

int pm__os_sleep(pm_futex *word, uint32_t expected, uint64_t deadline)
{
    struct timespec ts = {.tv_sec = (time_t)(deadline / 1000000000u),
                          .tv_nsec = (long)(deadline % 1000000000u)};
    /* FUTEX_WAIT_BITSET takes an absolute time on the monotonic clock. */
    long rc = syscall(SYS_futex, &word->v, FUTEX_WAIT_BITSET, expected, deadline ? &ts : NULL, NULL,
                      FUTEX_BITSET_MATCH_ANY);
    if (rc == 0 || errno == EAGAIN)
        return PM_OK;
    return errno == EINTR ? PM_EINTR : errno == ETIMEDOUT ? PM_ETIMEOUT : PM_ESYS;
}

void pm__os_wake(pm_futex *word, int count)
{
    syscall(SYS_futex, &word->v, FUTEX_WAKE, count, NULL, NULL, 0);
}

uint64_t pm__os_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int pm__os_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN)
                                                  : CPU_COUNT(&set);
}

int pm__os_pidfd(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

uint64_t pm__os_pid_namespace(void)
{
    struct stat st;
    return stat("/proc/self/ns/pid", &st) ? 0 : (uint64_t)st.st_ino;
}

/* Field `n` (3 = state) of /proc/pid/stat as text; the command name before it may hold anything
 * but its last ')'. */
static const char *stat_field(pid_t pid, int n, char *buf, size_t len)
{
    snprintf(buf, len, "/proc/%d/stat", (int)pid);
    int fd = open(buf, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t got = read(fd, buf, len - 1);
    close(fd);
    if (got <= 0)
        return NULL;
    buf[got] = 0;
    char *p = strrchr(buf, ')');
    for (n -= 2; p && n > 0; n--)
        p = strchr(p + 1, ' ');
    return p ? p + 1 : NULL;
}

uint64_t pm__os_start_time(pid_t pid)
{
    char buf[1024];
    const char *f = stat_field(pid, 22, buf, sizeof buf);
    unsigned long long t = 0;
    return f && sscanf(f, "%llu", &t) == 1 ? t : 0;
}

bool pm__os_stopped(pid_t tid)
{
    char buf[1024];
    const char *f = stat_field(tid, 3, buf, sizeof buf);
    return f && *f == 'T'; /* a tracer's stop reads 't' */
}

pid_t pm__os_process_of(pid_t tid)
{
    char buf[1024];
    snprintf(buf, sizeof buf, "/proc/%d/status", (int)tid);
    int fd = open(buf, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, buf, sizeof buf - 1);
    close(fd);
    buf[got > 0 ? got : 0] = 0;
    const char *p = strstr(buf, "\nTgid:");
    int pid = 0;
    return p && sscanf(p + 6, "%d", &pid) == 1 ? pid : 0;
}

void pm__os_signal(pid_t pid, uint64_t start_time, int sign)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return;
    /* asked after the open: the descriptor is of that process or of none */
    if (pm__os_start_time(pid) == start_time)
        syscall(SYS_pidfd_send_signal, fd, sign, NULL, 0);
    close(fd);
}

void pm__os_signal_main(int sign)
{
    syscall(SYS_tgkill, getpid(), getpid(), sign);
}

int pm__os_eventfd_ring(int fd)
{
    uint64_t one = 1;
    if (!pm__os_is_event(fd))
        return PM_OK;
    return write(fd, &one, sizeof one) == sizeof one || errno == EAGAIN ? PM_OK : PM_ESYS;
}

int pm__os_poll(int eventfd, int fd, int64_t ns)
{
    struct pollfd fds[] = {{.fd = eventfd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    if (ppoll(fds, 2, ns < 0 ? NULL : &ts, NULL) < 0)
        return errno == EINTR ? PM_EINTR : PM_ESYS;
    if (!fds[0].revents)
        return PM_OK;
    /* nothing is to be read of a file that has taken the number */
    if (!pm__os_is_event(eventfd)) {
        errno = EBADF;
        return PM_ESYS;
    }
    uint64_t count;
    (void)!read(eventfd, &count, sizeof count);
    return PM_OK;
}

static volatile sig_atomic_t mark_file, mark_bell;

static void mark(int signum)
{
    (void)signum;
    int e = errno;
    (void)!write(mark_file, "", 1);
    (void)!write(mark_bell, "", 1);
    errno = e;
}

int pm__os_mark_on_signal(int signum, int file, int bell)
{
    struct sigaction action = {.sa_handler = mark, .sa_flags = SA_RESTART};
    mark_file = file;
    mark_bell = bell;
    return sigaction(signum, &action, NULL) ? PM_ESYS : PM_OK;
}

int pm__os_random(void *out, uint64_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len ? PM_OK : PM_ESYS;
}

int pm__os_thread(pthread_t *out, void *(*run)(void *), void *arg)
{
    pthread_attr_t attr;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 128 * 1024);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* inherited by the thread */
    int e = pthread_create(out, &attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    errno = e;
    return e ? PM_ESYS : PM_OK;
}
