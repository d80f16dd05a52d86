/* os.h - memory maps, descriptors, futexes, clock: the core's only system calls.
 *
 * Every function returns PM_OK or PM_ESYS with errno set, unless it says otherwise. */
#ifndef PM_OS_H
#define PM_OS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "atomic.h"
#include "err.h"

/* A new memfd of `size` bytes, close-on-exec, sealed against resizing. */
int pm__os_memfd(uint64_t size, int *fd);
int pm__os_size(int fd, uint64_t *size);

/* Which file a descriptor is of. A program may close all descriptors that it does not know, ours among
 * them, and open others, which then have their numbers: those are not ours to write to, to map or to
 * close. */
typedef struct {
    uint64_t device, inode;
} pm_file;
pm_file pm__os_file(int fd);
bool pm__os_is_file(int fd, pm_file file);
/* All eventfds are one file, with others of the kernel's own: at worst somebody is woken for nothing. */
bool pm__os_is_event(int fd);
void pm__os_close_event(int fd); /* if it is one; takes -1, too */
/* Map [offset, offset + len) of fd, shared. Not inherited by fork(), not in core dumps. */
int pm__os_map(int fd, uint64_t offset, uint64_t len, bool writable, char **out);
void pm__os_unmap(char *at, uint64_t len);
/* Write to the file behind the arena without touching any map: fills fresh pages without faults. */
int pm__os_pwrite(int fd, const void *data, uint64_t len, uint64_t offset);
/* All of it, or PM_ELOST: the file ends before, or cannot be read. */
int pm__os_pread(int fd, void *data, uint64_t len, uint64_t offset);

/* Sleep while *word == expected, at most until `deadline` (pm__os_now(); 0 = no limit). Returns
 * PM_OK when woken or the word differs, PM_ETIMEDOUT-like PM_ETIMEOUT, or PM_EINTR when a signal
 * handler ran. */
int pm__os_sleep(pm_futex *word, uint32_t expected, uint64_t deadline);
void pm__os_wake(pm_futex *word, int count);

uint64_t pm__os_now(void); /* monotonic, ns */
int pm__os_cores(void);    /* that this process may run on */

int pm__os_pidfd(pid_t pid);           /* close-on-exec, -1 if there is none */
uint64_t pm__os_pid_namespace(void);   /* inode of the pid namespace, 0 if unknown */
uint64_t pm__os_start_time(pid_t pid); /* of /proc/pid/stat, 0 if there is no such process */
/* a process or thread stopped by a signal, not by a tracer */
bool pm__os_stopped(pid_t tid);
/* the process a thread belongs to, 0 if there is no such thread */
pid_t pm__os_process_of(pid_t tid);
/* Send a signal to the process with this pid and start time; no harm if it is gone, and the pid
 * another's. */
void pm__os_signal(pid_t pid, uint64_t start_time, int sign);
void pm__os_signal_main(int sign); /* to this process's main thread */
int pm__os_eventfd_ring(int fd);   /* no harm if it is none any more */
/* Sleep until one of the two is readable, at most `ns` (-1 = no limit). Empties the eventfd. PM_EINTR */
int pm__os_poll(int eventfd, int fd, int64_t ns);
/* Have signal `signum` write a byte 0 to `file`, then one to `bell`, and do nothing else. Once in a
 * process. */
int pm__os_mark_on_signal(int signum, int file, int bell);
int pm__os_random(void *out, uint64_t len);
/* A thread with a small stack, to which no signal of the process goes. PM_ESYS. */
int pm__os_thread(pthread_t *out, void *(*run)(void *), void *arg);

#endif
