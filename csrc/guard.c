/* guard.c - see guard.h. */
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "err.h"
#include "os.h"

enum {
    FDS = 8,
    HIGH_FD = 16,         /* copies to pass on stand from here, clear of the numbers they become */
    QUICK_NS = 500000000, /* a keeper that lived no longer than this died of its start */
    /* nothing but such deaths for so long, and the session is said to have failed */
    FAILED_S = 10,
    PAUSE_MIN_MS = 50,
    PAUSE_MAX_MS = 500,
    PAUSE_FAILED_MS = 5000,
    LOOK_MS = 1000, /* how often a keeper that is not our child any more is looked at */
};

struct pm_guard {
    pm_arena *a;
    pthread_t thread;
    char **argv, **envp;
    int fds[FDS], nfds;
    pthread_mutex_t mutex; /* guards pid against stop */
    pid_t pid;
    int pidfd;
    int stop; /* eventfd: ends pauses */
    _Atomic bool stopping, failed;
};

static char **copy_strings(char *const from[])
{
    size_t n = 0;
    while (from[n])
        n++;
    char **to = calloc(n + 1, sizeof *to);
    for (size_t i = 0; to && i < n; i++)
        to[i] = strdup(from[i]);
    return to;
}

static void free_strings(char **s)
{
    for (size_t i = 0; s && s[i]; i++)
        free(s[i]);
    free(s);
}

static int file_actions(const pm_guard *g, posix_spawn_file_actions_t *fa)
{
    int e = posix_spawn_file_actions_init(fa);
    for (int i = 0; i < 3 && !e; i++)
        e = posix_spawn_file_actions_addopen(fa, i, "/dev/null", i ? O_WRONLY : O_RDONLY, 0);
    for (int i = 0; i < g->nfds && !e; i++)
        e = posix_spawn_file_actions_adddup2(fa, g->fds[i], 3 + i);
    return e;
}

static int spawn(pm_guard *g)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    int e = file_actions(g, &fa);
    pthread_mutex_lock(&g->mutex);
    if (!e && g->stopping)
        e = ECANCELED;
    if (!e)
        e = posix_spawn(&g->pid, g->argv[0], &fa, &attr, g->argv, g->envp);
    if (g->pidfd >= 0)
        close(g->pidfd);
    g->pidfd = e ? -1 : (int)syscall(SYS_pidfd_open, g->pid, 0);
    if (e)
        g->pid = 0;
    pthread_mutex_unlock(&g->mutex);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&attr);
    errno = e;
    return e ? PM_ESYS : PM_OK;
}

/* Until the keeper is gone. A stopped one is of no use, and holds nothing that a new one could
 * not find: kill it. */
static void await_end(pm_guard *g)
{
    siginfo_t info;
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_PID, (id_t)g->pid, &info, WEXITED | WSTOPPED) == 0) {
            if (info.si_code == CLD_STOPPED)
                kill(g->pid, SIGKILL);
            else if (info.si_pid)
                return;
        } else if (errno != EINTR) { /* the program reaped our child: its pidfd still tells */
            struct pollfd p = {.fd = g->pidfd, .events = POLLIN};
            while (g->pidfd >= 0 && poll(&p, 1, LOOK_MS) <= 0)
                if (pm__os_stopped(g->pid))
                    kill(g->pid, SIGKILL);
            return;
        }
    }
}

/* After failures in a row wait longer each time, but never give up: one day there is memory
 * again for a process. */
static void pause_after(pm_guard *g, int failures)
{
    int ms = failures > 4 ? PAUSE_MAX_MS : PAUSE_MIN_MS << (failures - 1);
    struct pollfd p = {.fd = g->stop, .events = POLLIN};
    poll(&p, 1, g->failed ? PAUSE_FAILED_MS : ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS);
}

static void *guard(void *arg)
{
    pm_guard *g = arg;
    int failures = 0;
    uint64_t well = pm__os_now(); /* up to when there was a keeper that lived */
    pthread_setname_np(pthread_self(), "plasmid-guard");
    for (;;) {
        uint64_t began = pm__os_now();
        if (g->pid) /* also when we are to stop: no zombie is left */
            await_end(g);
        if (g->stopping)
            return NULL;
        bool quick = pm__os_now() - began < QUICK_NS;
        failures = quick ? failures + 1 : 0;
        if (!quick)
            well = pm__os_now();
        g->failed = pm__os_now() - well > FAILED_S * UINT64_C(1000000000);
        if (g->failed) /* a keeper that gets as far as its loop takes it back */
            pm__fail(g->a, "the session's keeper dies as soon as it is started");
        if (failures > 1)
            pause_after(g, failures - 1);
        spawn(g);
    }
}

static void destroy(pm_guard *g)
{
    int e = errno; /* why it could not be started */
    free_strings(g->argv);
    free_strings(g->envp);
    for (int i = 0; i < g->nfds; i++)
        close(g->fds[i]);
    if (g->pidfd >= 0)
        close(g->pidfd);
    if (g->stop >= 0)
        close(g->stop);
    pthread_mutex_destroy(&g->mutex);
    free(g);
    errno = e;
}

static void kill_keeper(pm_guard *g)
{
    pthread_mutex_lock(&g->mutex);
    g->stopping = true;
    if (g->pid && g->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, g->pidfd, SIGKILL, NULL, 0);
    else if (g->pid)
        kill(g->pid, SIGKILL);
    pm__os_eventfd_ring(g->stop);
    pthread_mutex_unlock(&g->mutex);
}

int pm_guard_start(pm_arena *a, char *const argv[], char *const envp[], const int *fds, int nfds,
                   pm_guard **out)
{
    if (nfds > FDS)
        return PM_EINVAL;
    pm_guard *g = calloc(1, sizeof *g);
    if (!g)
        return PM_ESYS;
    g->a = a;
    g->pidfd = -1;
    g->stop = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&g->mutex, NULL);
    g->argv = copy_strings(argv);
    g->envp = copy_strings(envp);
    int rc = g->argv && g->envp && g->stop >= 0 ? PM_OK : PM_ESYS;
    for (; rc == PM_OK && g->nfds < nfds; g->nfds++)
        if ((g->fds[g->nfds] = fcntl(fds[g->nfds], F_DUPFD_CLOEXEC, HIGH_FD)) < 0)
            rc = PM_ESYS;
    if (rc == PM_OK)
        rc = spawn(g);
    if (rc == PM_OK && (rc = pm__os_thread(&g->thread, guard, g))) {
        kill_keeper(g);
        await_end(g);
    }
    if (rc)
        destroy(g);
    else
        *out = g;
    return rc;
}

pid_t pm_guard_pid(const pm_guard *g)
{
    return g->pid;
}

bool pm_guard_failed(const pm_guard *g)
{
    return g->failed;
}

void pm_guard_stop(pm_guard *g)
{
    kill_keeper(g);
    pthread_join(g->thread, NULL);
    destroy(g);
}
