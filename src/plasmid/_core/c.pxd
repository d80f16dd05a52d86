"""Declarations of the C core (csrc/plasmid.h), and nothing else."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "<stdbool.h>" nogil:
    ctypedef bint c_bool "bool"  # where its address is given


cdef extern from "plasmid.h" nogil:
    enum:
        PM_OK
        PM_EFULL
        PM_ENOTFOUND
        PM_ESYS
        PM_EAGAIN
        PM_ETIMEOUT
        PM_EINTR
        PM_EEXISTS
        PM_ETABLE
        PM_ESTOPPED
        PM_EGONE
        PM_EFORKED
        PM_ELEFT
        PM_EFORKED
        PM_EALIVE
        PM_EREMOVED
        PM_EFAILED
        PM_ESTATE
        PM_EWORK
        PM_EFREED
        PM_ELEASED
        PM_ESPILLED
        PM_ELOST
        PM_EDROPPED
        PM_EINVAL
        PM_INLINE
        PM_TASK_INLINE
        PM_KEY
        PM_TAG_CRASH
        PM_CRASH_BYTES
        PM_TAG_CANCELLED
        PM_TAG_UNAVAILABLE
        PM_UNAVAILABLE_BYTES
        PM_TAG_BEREAVED
        PM_BEREAVED_BYTES
        PM_CANCELLED_BYTES
        PM_ECANCELLED
        PM_WAIT_WORKING
        PM_WAIT_TASK
        PM_CANCEL_FORCE
        PM_CANCEL_TREE
        PM_CANCEL_SIGNAL

    ctypedef enum pm_patience:
        PM_TRY
        PM_WAIT

    enum pm_kind:
        PM_DRIVER
        PM_KEEPER
        PM_WORKER
        PM_GUEST

    enum pm_entry_state:
        PM_FREE
        PM_PENDING
        PM_SEALED
        PM_FAILED
        PM_FREED
        PM_OFFERING
        PM_SPILLED

    int64_t PM_CAUSE_UNKNOWN
    int64_t PM_CAUSE_MEMORY
    int64_t PM_CAUSE_SHORT
    int64_t PM_CAUSE_EXCESS
    uint64_t PM_RETRY_ALWAYS

    ctypedef struct pm_j64:
        uint64_t v

    ctypedef struct pm_a64:
        pass
    uint64_t pm_a64_load(const pm_a64 *word)
    void pm_a64_store(pm_a64 *word, uint64_t value)
    uint64_t pm_a64_add(pm_a64 *word, uint64_t value)

    ctypedef struct pm_client_shm:
        pm_j64 epoch
        pm_j64 kind
        pm_j64 pid
        pm_j64 start_time
        pm_j64 running
        pm_j64 lifeline
        pm_j64 pipe

    enum:
        PM_KINDS
        PM_BUNDLES
        PM_GROUPS
        PM_CLIENTS
        PM_KIND_NAME
        PM_UNITS
        PM_DEVICES
        PM_GROUP_NAME
        PM_CPU

    ctypedef struct pm_bundle_shm:
        pm_j64 free[16]

    ctypedef struct pm_header_shm:
        unsigned char session[16]
        uint64_t heap_bytes
        uint64_t kinds
        char kind_names[16][64]
        uint64_t total[16]
        pm_bundle_shm bundles[256]
        pm_a64 expiry
        pm_a64 clock
        pm_a64 loose
        pm_a64 warm_from
        pm_a64 serializers

    ctypedef struct pm_entry_shm:
        pm_j64 size

    ctypedef struct pm_arena:
        int fd
        int bell
        uint64_t slot
        uint64_t epoch
        pm_header_shm *h
        pm_client_shm *clients
        pm_entry_shm *entries

    ctypedef struct pm_ref:
        uint64_t slot
        uint64_t generation

    ctypedef struct pm_view:
        pm_entry_state state
        bint is_inline
        const void *data
        uint64_t size
        const pm_ref *refs
        uint64_t nrefs

    ctypedef struct pm_window:
        char *at
        uint64_t len
        uint64_t offset

    ctypedef struct pm_arg_shm:
        pass

    ctypedef struct pm_task_argument:
        uint64_t slot
        bint waits

    ctypedef struct pm_need:
        uint64_t kind
        uint64_t amount

    ctypedef struct pm_task_spec:
        uint64_t function
        const char *name
        const void *payload
        uint64_t size
        int64_t packed
        const pm_task_argument *args
        uint64_t nargs
        uint64_t nrets
        bint yields
        uint64_t limit
        uint64_t cpu
        const pm_need *more
        uint64_t nmore
        uint64_t group
        int64_t bundle
        uint64_t retries
        bint quiet
        uint64_t env
        bint alone
        bint hosted
        bint unordered
        uint64_t most_calls
        uint64_t parent

    ctypedef struct pm_submission:
        uint64_t task
        uint64_t made

    enum: PM_SURVEY_DEPS

    enum pm_task_state:
        PM_TASK_BUILDING
        PM_TASK_WAITING
        PM_TASK_READY
        PM_TASK_RUNNING
        PM_TASK_ABANDONED

    enum pm_outcome:
        PM_FINISHED
        PM_RAISED
        PM_CRASHED
        PM_CANCELLED
        PM_RETRIED

    ctypedef struct pm_event:
        uint64_t serial
        uint64_t parent
        uint64_t attempt
        uint64_t outcome
        uint64_t pid
        uint64_t submitted
        uint64_t started
        uint64_t began
        uint64_t returned
        uint64_t ended
        uint64_t actor
        char *name
        char *error

    ctypedef struct pm_dependency:
        pm_ref ref
        uint64_t serial
        char *name

    ctypedef struct pm_task_info:
        uint64_t serial
        uint64_t parent
        int state
        bint blocked
        char *name
        uint64_t pid
        uint64_t actor
        pm_ref mailbox
        uint64_t calls
        uint64_t attempt
        uint64_t retries
        uint64_t nargs
        uint64_t nrets
        uint64_t submitted
        uint64_t started
        uint64_t waiting
        pm_dependency *deps

    ctypedef struct pm_running:
        uint64_t task
        uint64_t serial
        uint64_t parent
        uint64_t function
        uint64_t function_generation
        const char *name
        const void *payload
        uint64_t size
        int64_t packed
        uint64_t nargs
        uint64_t nrets
        bint yields
        bint wanted
        bint hosted
        bint call
        uint64_t made
        uint64_t attempt
        uint64_t retries
        uint64_t group
        uint64_t devices
        uint64_t env

    ctypedef struct pm_result:
        const void *data
        uint64_t len
        uint64_t object
        bint failed

    ctypedef struct pm_stats:
        uint64_t entries
        uint64_t holds
        uint64_t tasks
        uint64_t keys
        uint64_t reserved
        uint64_t kept
        uint64_t entry_capacity
        uint64_t task_capacity
        uint64_t heap_capacity
        uint64_t heap_used
        uint64_t heap_free
        uint64_t heap_largest
        uint64_t disk_capacity
        uint64_t disk_used
        uint64_t spills
        uint64_t spilled_bytes
        uint64_t restores
        uint64_t restored_bytes
        uint64_t watermark
        uint64_t waits
        uint64_t disk_errno
        uint64_t ready
        uint64_t workers
        uint64_t idle
        uint64_t clients
        uint64_t cpu_total
        int64_t cpu_free
        uint64_t repairs

    ctypedef struct pm_guard:
        pass

    const char *pm_strerror(int rc)
    const char *pm_err_class(int rc)
    int pm__stopped_holder()
    int pm__os_mark_on_signal(int signum, int file, int bell)
    uint64_t pm__os_now()
    uint64_t pm__client_high(const pm_arena *a)
    int pm__over(const pm_arena *a)
    void pm__wake_everyone(pm_arena *a)

    ctypedef struct pm_total:
        const char *name
        uint64_t amount

    int pm_open_new(
        uint64_t heap_bytes, uint64_t disk_bytes, const pm_total *totals, uint64_t n, pm_arena **out
    )
    int pm_open_fd(int fd, pm_kind kind, int driver_pidfd, int bell, pm_arena **out)
    int pm_set_bell(pm_arena *a, int fd)
    int pm_end(pm_arena *a)
    bint pm_is_ending(const pm_arena *a)
    bint pm_has_surplus(const pm_arena *a)
    bint pm_is_short_of_workers(const pm_arena *a)
    int pm_leave(pm_arena *a, bint sweep)
    int pm_retire(pm_arena *a)
    void pm_close(pm_arena *a)
    bint pm_is_inherited(const pm_arena *a)
    void pm_forget(pm_arena *a)
    void pm_fail(pm_arena *a, const char *why)
    const char *pm_failure(const pm_arena *a)
    void pm_expire_by(pm_arena *a, uint64_t ns)
    int pm_set_boot(pm_arena *a, pm_patience how, uint64_t slot)
    int pm_boot(pm_arena *a, pm_patience how, pm_ref *out)

    int pm_put(pm_arena *a, pm_patience how, const void *data, uint64_t len, pm_ref *out)
    int pm_create(
        pm_arena *a, pm_patience how, uint64_t size, const pm_ref *refs, uint64_t nrefs, pm_ref *out
    )
    int pm_create_in_time(
        pm_arena *a,
        uint64_t size,
        const pm_ref *refs,
        uint64_t nrefs,
        uint64_t deadline,
        uint64_t *ticket,
        pm_ref *out,
    )
    int pm_disk_use(pm_arena *a, int fd)
    void pm_huge_pages(pm_arena *a)
    bint pm_tell_of_spilling(pm_arena *a)
    int pm_await_back(pm_arena *a, uint64_t slot)
    uint64_t pm_away_bytes(const pm_arena *a, uint64_t slot)
    int pm_bring_back(pm_arena *a, uint64_t slot, uint64_t into)
    int pm_replace(pm_arena *a, uint64_t slot, uint64_t made)

    ctypedef struct pm_recipe:
        uint64_t index
        uint64_t nrets
        const char *name
        pm_ref function
        bint packed
        pm_ref arguments
        uint64_t size
        const unsigned char *payload
        uint64_t nargs
        pm_ref *args
        bint *waits
        uint64_t cpu
        uint64_t retries

    int pm_recipe_of(pm_arena *a, pm_patience how, uint64_t slot, pm_recipe *out)
    int pm_contain(pm_arena *a, pm_patience how, uint64_t slot)
    int pm_write(pm_arena *a, uint64_t slot, uint64_t at, const void *data, uint64_t len)
    void pm_label(pm_arena *a, uint64_t slot, const char *site)
    int pm_seal(pm_arena *a, pm_patience how, uint64_t slot, bint failed)
    int pm_hold(pm_arena *a, pm_patience how, pm_ref ref)
    void pm_drop(pm_arena *a, uint64_t slot)
    int pm_pin(pm_arena *a, uint64_t slot)
    void pm_unpin(pm_arena *a, uint64_t slot)
    pm_entry_state pm_state(const pm_arena *a, uint64_t slot)
    int pm_look(const pm_arena *a, uint64_t slot, pm_view *out)
    void pm_share(pm_arena *a, uint64_t slot)
    uint64_t pm_producer(const pm_arena *a, uint64_t slot)
    pm_ref pm_ref_of(const pm_arena *a, uint64_t slot)
    int pm_name(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char *key)
    int pm_find(pm_arena *a, pm_patience how, const unsigned char *key, pm_ref *out)
    int pm_keep(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char *key)
    int pm_unkeep(pm_arena *a, pm_patience how, uint64_t slot, const unsigned char *key)
    int pm_kept(pm_arena *a, pm_patience how, uint64_t *start, pm_ref *out, uint64_t *n)
    int pm_free(pm_arena *a, pm_patience how, uint64_t slot)
    int pm_locate(pm_arena *a, const void *data, uint64_t len, pm_ref *out, uint64_t *offset)

    int pm_adopt(pm_arena *a, pm_patience how, pm_ref ref)
    void pm_map_inherit(const pm_arena *a, bint inherit)
    void pm_map_poison(const pm_arena *a)
    void pm_window_inherit(const pm_window *w, bint inherit)
    int pm__driver_fd(const pm_arena *a)
    int pm_lease(pm_arena *a, pm_patience how, uint64_t slot)
    int pm_lessee(pm_arena *a, pm_patience how, uint64_t slot, uint64_t *pid)
    int pm_await_lease(pm_arena *a, uint64_t slot, uint64_t deadline)
    int pm_close_leases(pm_arena *a, uint64_t slot, uint64_t deadline)
    void pm_reopen(pm_arena *a, uint64_t slot)
    int pm_window_open(
        pm_arena *a, uint64_t slot, uint64_t start, uint64_t len, bint is_private, pm_window *out
    )
    int pm_window_freeze(pm_arena *a, pm_window *w)
    void pm_window_close(const pm_window *w)

    uint64_t pm_stamp(pm_arena *a)
    bint pm_met(pm_arena *a, uint64_t slot, uint64_t stamp)
    int pm_wait(
        pm_arena *a,
        const uint64_t *slots,
        uint64_t n,
        uint64_t need,
        uint64_t deadline,
        unsigned mode,
    )

    int pm_submit(
        pm_arena *a, pm_patience how, const pm_task_spec *spec, pm_submission *s, pm_ref *out
    )
    bint pm_linger(const pm_arena *a, uint64_t slot, uint64_t ns)
    int pm_try_next(pm_arena *a, pm_running *out)
    int pm_next(pm_arena *a, uint64_t deadline, pm_running *out)
    int pm_take_awaited(
        pm_arena *a,
        pm_patience how,
        const uint64_t *slots,
        uint64_t n,
        bint streams,
        uint64_t *start,
        pm_running *out,
    )
    int pm_hurry(pm_arena *a, pm_patience how, const uint64_t *slots, uint64_t n, uint64_t *start)
    uint64_t pm_task_need(const pm_arena *a, uint64_t task, uint64_t kind)
    pm_task_argument pm_argument(const pm_arena *a, uint64_t task, uint64_t i)
    pm_ref pm_argument_ref(const pm_arena *a, uint64_t task, uint64_t i)
    pm_ref pm_result_ref(const pm_arena *a, uint64_t task, uint64_t i)
    pm_ref pm_mailbox_ref(const pm_arena *a, uint64_t task)
    int pm_finish(
        pm_arena *a, pm_patience how, uint64_t task, const pm_result *results, pm_running *next
    )
    int pm_yield(
        pm_arena *a, pm_patience how, uint64_t task, const pm_result *item, c_bool *room
    )
    int pm_await_room(pm_arena *a, uint64_t task, uint64_t deadline)
    int pm_stream_take(
        pm_arena *a, pm_patience how, uint64_t gate, pm_ref *out, c_bool *failed
    )
    int pm_stream_look(
        pm_arena *a, pm_patience how, uint64_t gate, uint64_t *items, c_bool *ended
    )
    void pm_account_for(pm_arena *a, uint64_t began, uint64_t returned, const char *error)
    int pm_events(const pm_arena *a, uint64_t *start, pm_event *out, uint64_t *n)
    int pm_survey_tasks(
        pm_arena *a, pm_patience how, uint64_t *start, pm_task_info *out, uint64_t *n
    )
    int pm_retry(pm_arena *a, pm_patience how, uint64_t task)
    int pm_block(pm_arena *a, pm_patience how, uint64_t task)
    int pm_resume(pm_arena *a, pm_patience how, uint64_t task)
    int pm_set_aside(pm_arena *a, pm_patience how, uint64_t slot, uint64_t epoch)
    int pm_dismiss_myself(pm_arena *a, pm_patience how)
    bint pm_is_mixed(const pm_arena *a)
    int pm_workers_wanted(pm_arena *a, pm_patience how, uint64_t cap, uint64_t *wanted)
    int pm_stall(pm_arena *a, pm_patience how, uint64_t *moved)

    void pm__call_watcher(pm_arena *a)
    int pm_cancel(pm_arena *a, uint64_t slot, unsigned way)
    bint pm_is_awaited(const pm_arena *a, uint64_t task)
    bint pm_cancel_asked(const pm_arena *a, uint64_t task)

    ctypedef struct pm_actor_info:
        uint64_t serial
        bint dead
        int state
        uint64_t attempt
        uint64_t retries
        uint64_t pid
        uint64_t calls
        pm_ref card
    int pm_actor_look(pm_arena *a, pm_patience how, uint64_t slot, pm_actor_info *out)
    int pm_actor_kill(pm_arena *a, uint64_t slot)

    ctypedef struct pm_relay:
        int fd
    bint pm_rung(const pm_arena *a)
    int pm_poll(pm_arena *a, pm_relay *r, int fd, int64_t ns)
    int pm_relay_run(pm_arena *a, pm_relay *r)
    void pm_relay_dismiss(pm_arena *a, pm_relay *r)
    int pm_cancel_tell(pm_arena *a, pm_patience how, uint64_t task)

    ctypedef struct pm_holder_info:
        uint64_t client
        uint64_t pid
        uint64_t kind
        uint64_t pins

    ctypedef struct pm_object_info:
        pm_ref ref
        pm_entry_state state
        bint is_inline
        bint stripped
        bint kept
        bint boot
        uint64_t size
        uint64_t bytes
        uint64_t refs
        uint64_t nrefs
        bint has_task
        char *task
        char *site
        uint64_t nholders
        pm_holder_info *holders
    enum:
        PM_SURVEY_HOLDERS
    int pm_survey(
        pm_arena *a, pm_patience how, uint64_t *start, pm_object_info *out, uint64_t *n
    )

    ctypedef struct pm_group_spec:
        const uint64_t (*bundles)[16]
        uint64_t count
        const char *name
        uint64_t how
        bint never
        bint mine

    ctypedef struct pm_group_info:
        uint64_t serial
        uint64_t state
        uint64_t how
        uint64_t count
        bint stays
        char name[64]
    int pm_group_create(
        pm_arena *a, pm_patience how, const pm_group_spec *spec, uint64_t *serial
    )
    int pm_group_remove(pm_arena *a, pm_patience how, uint64_t serial)
    int pm_groups(pm_arena *a, pm_patience how, pm_group_info *out, uint64_t *n)
    int pm_group_bundles(
        pm_arena *a, pm_patience how, uint64_t serial, uint64_t (*out)[16], uint64_t *n
    )
    int pm_group_runners(pm_arena *a, pm_patience how, uint64_t *out, uint64_t *n)

    ctypedef struct pm_runner:
        uint64_t slot
        uint64_t epoch
        uint64_t pid
        uint64_t started
        uint64_t memory
        bint again
        bint actor
    int pm_runners(pm_arena *a, pm_patience how, pm_runner *out, uint64_t *n)

    ctypedef struct pm_death:
        int64_t cause
        uint64_t used
        uint64_t peak
        uint64_t limit
        uint64_t group_used
        uint64_t group_peak
    int pm_sweep(pm_arena *a, uint64_t slot, uint64_t epoch, const pm_death *how)

    int pm_trim(pm_arena *a, uint64_t keep, uint64_t *given)
    uint64_t pm_warm(pm_arena *a)
    void pm_warm_not(pm_arena *a)
    int pm_check(pm_arena *a, char *why, size_t length)
    int pm_stats_read(pm_arena *a, pm_patience how, pm_stats *out)
    int pm_dump(pm_arena *a, uint64_t most, char **text)

    int pm_guard_start(
        pm_arena *a, char **argv, char **envp, const int *fds, int nfds, pm_guard **out
    )
    int pm_guard_pid(const pm_guard *g)
    bint pm_guard_failed(const pm_guard *g)
    void pm_guard_stop(pm_guard *g)


cdef extern from "<stdio.h>" nogil:
    ctypedef struct FILE:
        pass
    FILE *stdout
    enum:
        _IOLBF
    int setvbuf(FILE *stream, char *buffer, int mode, size_t size)


cdef extern from "<sys/prctl.h>" nogil:
    enum:
        PR_SET_CHILD_SUBREAPER
    int prctl(int option, unsigned long value)


cdef extern from "<sys/inotify.h>" nogil:
    enum:
        IN_CLOEXEC
        IN_NONBLOCK
    int inotify_init1(int flags)
    int inotify_add_watch(int fd, const char *path, uint32_t mask)
    int inotify_rm_watch(int fd, int watch)


cdef extern from "<fcntl.h>" nogil:
    enum:
        FALLOC_FL_PUNCH_HOLE
        FALLOC_FL_KEEP_SIZE
    int fallocate(int fd, int mode, int64_t offset, int64_t length)
