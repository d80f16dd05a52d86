/* layout.h - every structure in the arena, and who may touch which field.
 *
 *   [C] constant after create   [J] journaled: under the lock   [A] atomic   [P] published: read without the lock
 *   [F] journaled, and frozen while the entry is sealed and held: a holder may read it without the lock
 * J, A and P are also the word's C type (atomic.h). Index words hold index + 1, 0 = none.
 *
 * The arena, in one memfd; all but the header and the heap is sparse: untouched pages cost
 * nothing.
 *
 *   header | clients | waiters | entries | holds | tasks | keys | buckets | events | present | owners |
 *   used | page descriptors | those of the disk | heap
 *
 * Invariants (pm_check() proves them):
 *   entry.refs  = hold records of it + tasks that take or produce it + sealed objects that contain it
 *                 + 1 if the header keeps it (boot, a kept key) + 1 if it is an item of a stream
 *                 + shapes in use whose environment it is
 *   entry free  <=> refs == 0, or on the dying list until the bytes are back
 *   entry.holders lists exactly its hold records
 *   busy        = clients with running tasks;  cpu_used = sum of task.held
 *   of each kind of resource: a bundle's total = its free + what tasks that draw on it hold; of the
 *                 machine (bundle 0) also + the totals of the bundles that groups have reserved.
 *                 CPU counts as held only by who is not blocked, so its free may be below 0
 *   each GPU is whole and free in one bundle, or in use in parts in one, or held whole by one task
 *   gate.held   = items of its stream;  an open gate whose task has not ended is OFFERING <=> held > 0
 *   mailbox.calls = tasks whose function it is;  its queue holds exactly those that are READY
 *   hosts       = workers with an actor of their own (client.hosts != 0)
 *   aside       = workers with aside != 0, none of which is idle or busy
 *   all tasks that a client runs, but calls, are of the environment that it is bound to
 *   entry_live  = entries not on the free list and below entry_high; hold_live, task_live likewise
 *   heap used   = sum of the blocks of entries, but of those without (pm__has_block), and of tasks'
 *                 argument tables
 *   disk used   = sum of the extents of entries' copies
 *   an entry that is SPILT is SPILLED or FREED, and has a copy
 *   task.lent   = entries whose lineage it is, if it is kept */
#ifndef PM_LAYOUT_H
#define PM_LAYOUT_H

#include <stddef.h>

#include "heap.h"
#include "lock.h"

enum {
    PM_VERSION = 3,
    PM_CLIENTS = 1024,
    PM_WAITERS = 60, /* threads of one client that may sleep in get or wait at the same time */
    PM_INLINE = 144, /* bytes of a value kept in its entry */
    PM_SITE = PM_INLINE - 8,
    PM_SPILL_LEAST = 1024, /* bytes of an object that may be spilled */
    PM_TASK_ARGS = 4,
    PM_TASK_RETS = 4,
    PM_TASK_NAME = 40,
    PM_TASK_INLINE = 160, /* bytes of packed arguments kept in the task */
    PM_KINDS = 16,        /* of resources */
    PM_KIND_NAME = 64,
    PM_UNITS = 10000, /* of a CPU, a GPU and custom resources; memory counts bytes */
    PM_DEVICES = 64,  /* GPUs */
    PM_SHAPES = 256,
    PM_BUNDLES = 256,
    PM_GROUPS = 64,
    PM_GROUP_NAME = 64,
    PM_KEY = 28,
    PM_FAILURE = 1024,
    PM_EVENTS = 16384, /* latest attempts of tasks that are remembered */
};
#define PM_MAGIC UINT64_C(0x3144494d53414c50) /* "PLASMID1" */

/* An object of the store, or the promise of one: 256 bytes, four cache lines. */
typedef struct {
    pm_p64 state;   /* [P] generation << 8 | enum pm_entry_state */
    pm_j64 link;    /* [J] next on the free, dying or settling list */
    pm_j64 refs;    /* [J] */
    pm_j64 block;   /* [F] heap block of the bytes, 0 = they are inline */
    pm_j64 size;    /* [F] payload bytes; the table of contained refs follows, 8-aligned */
    pm_j64 nrefs;   /* [F] refs contained */
    pm_j64 held;    /* [J] cursor: contained refs counted so far */
    pm_j64 task;    /* [J] task that will produce it */
    pm_j64 holders; /* [J] its hold records */
    pm_j64 deps;    /* [J] offset of the first argument (pm_arg_shm) that waits for it */
    pm_j64 key;     /* [J] its key in the directory */
    pm_j64 strip;   /* [J] enum pm_strip */
    /* [F] serial of the task that it is a result of, 0 = it was put; constant while the entry exists */
    pm_j64 producer;
    pm_j64 copy; /* [J] where its copy on disk is (disk.h), 0 = it has none */
    /* [F] the value, or with a block: its call site, a text; and in the last word [J] its lineage */
    unsigned char bytes[PM_INLINE];
} pm_entry_shm;

enum pm_entry_state {
    PM_FREE,     /* on the free list */
    PM_PENDING,  /* its bytes are being written, or its task has not finished */
    PM_SEALED,   /* immutable and visible */
    PM_FAILED,   /* sealed, and the value is an exception to raise */
    PM_FREED,    /* by the user: references stay, the bytes go when nobody looks at them any more */
    PM_OFFERING, /* a gate whose stream has items, and a task that may add more */
    PM_SPILLED,  /* sealed, and its bytes are on disk, or about to be there alone (spill.h) */
};

/* What an entry is beside an object with a value, or what has become of its bytes. Nobody gets a
 * reference to those after the mailbox by their id. */
enum pm_strip {
    PM_WHOLE,
    PM_STRIPPING, /* freed, on the dying list: contained references go, then the block */
    PM_STRIPPED,  /* block still names what it was, for those who look without the lock */
    /* its bytes are on disk alone: block is the table of contained references; if there are none, it
     * still names what it was */
    PM_SPILT,
    PM_LEAVING,    /* freed, as STRIPPING, and spilt before */
    PM_MAILBOX,    /* of an actor: its bytes are a pm_mailbox_shm */
    PM_GATE,       /* of a stream: its bytes are a pm_stream_shm, `held` counts the items in it */
    PM_SHUTTING,   /* a gate that nobody holds any more: on the dying list, its items go */
    PM_SHUT,       /* and they are gone */
    PM_ITEM,       /* of a stream, sealed, and not yet taken: link is the next one */
    PM_ITEM_SPILT, /* the same, spilt */
    PM_LITTER,     /* all that is left of it is its copy on disk: on the header's list */
};

/* What a task yields and nobody has taken yet, oldest first. It lies in the bytes of the gate: a
 * result of the task that only the process that submitted it holds, and never sees. */
typedef struct {
    pm_j64 head, tail; /* [J] items, through their links; each has one reference, the stream's */
    pm_j64 made;       /* [J] items that were ever put in: a further attempt skips as many */
    pm_j64 limit;      /* [J] the task pauses while so many are here; 0 = never */
    pm_j64 told;       /* [J] 1: the last item is what the task raised; there is none after it */
    pm_j64
        pausing; /* [J] its waiter, client * PM_WAITERS + waiter + 1; 0, or out of date: harmless */
} pm_stream_shm;

/* An actor, for those who call it: it lies in the bytes of the first result of the task that the
 * actor is, and is the `function` of its calls. It contains one reference, to the obituary, the
 * task's second result: what became of the actor. Dead when entry.task is 0. */
typedef struct {
    pm_j64 head, tail; /* [J] calls that are ready, through their links */
    pm_j64 calls;      /* [J] that exist */
    pm_j64 limit;      /* [J] of calls; 0 = none. Constant while the entry exists, as is the next */
    pm_j64 unordered;  /* [J] 1: a call is ready when its arguments are, whatever was before it */
    pm_j64 host;       /* [J] client slot + 1 of the process that it lives in; 0 = none now */
    /* [J] of each caller with calls that are not ready the latest one, through task.prev */
    pm_j64 tails;
    pm_j64 closing; /* [J] 1: on the header's list `closing`, through entry.link */
} pm_mailbox_shm;

/* A reference as it stands in an object's table of contained refs. */
typedef struct {
    uint64_t slot;
    uint64_t generation;
} pm_ref;

/* This client has references to this entry, and `pins` views of its bytes: 64 bytes. Pins of a
 * pending entry are write leases: mappings through which this client writes it. PM_CLOSED beside
 * them: it is sealing the entry, and no other client gets a lease any more. */
#define PM_CLOSED (UINT64_C(1) << 63)
typedef struct {
    pm_j64 next, prev;   /* [J] the client's list; next also links the free list */
    pm_j64 entry;        /* [J] */
    pm_j64 client;       /* [J] slot */
    pm_j64 enext, eprev; /* [J] the entry's holders */
    /* [J] waiter that counts it, PM_WAITERS + 1 = all of the client's; 0 = not waiting */
    pm_j64 waiter;
    /* [A] raised under the lock or from >= 1, lowered by anyone of the client; PM_CLOSED likewise */
    pm_a64 pins;
} pm_hold_shm;

/* A thread asleep, or about to be: 64 bytes. */
typedef struct {
    pm_a64 missing;  /* [A] signed: completions until it should look again; <= 0 = look now */
    pm_futex asleep; /* [A] 1 while (nearly) asleep on it */
    uint32_t pad;
    pm_a64 work; /* [A] 1: a task it waits for was queued when no worker was idle */
    pm_a64
        ticket; /* [A] its place in the line for heap (room.h), written under the lock; 0 = none */
    uint64_t pad2[4];
} pm_waiter_shm;

/* A process attached to the arena: 256 bytes. */
typedef struct {
    pthread_mutex_t life; /* held by the client's watcher thread; OWNER_DIED is proof of death */
    char pad[64 - sizeof(pthread_mutex_t)];
    pm_j64 epoch;      /* [J] raised when the slot is freed */
    pm_j64 kind;       /* [J] enum pm_kind, 0 = free */
    pm_j64 pid;        /* [J] */
    pm_j64 start_time; /* [J] */
    pm_j64 holds;      /* [J] its hold records */
    pm_j64 building;   /* [J] tasks that it is submitting */
    pm_j64 running;    /* [J] tasks that it runs, innermost first */
    pm_j64 idle;       /* [J] 1 while on the idle list */
    pm_j64 aside;      /* [J] enum pm_aside: has nothing to run, and does not count as a worker */
    pm_j64 idle_next, idle_prev; /* [J] */
    pm_a64 waiters;              /* [A] bit per waiter in use */
    pm_a64 bell;                 /* [A] 1: an idle worker should look at the queue */
    pm_a64 reserve;              /* [A] pending entries it keeps in stock; written by it alone */
    pm_futex asleep;             /* [A] 1 while (nearly) asleep for the bell */
    uint32_t pad2;
    pm_j64 lifeline; /* [J] of a guest: its descriptor of its lifeline (client.h), + 1; 0 = none */
    pm_j64 pipe;     /* [J] the inode of that pipe */
    /* [J] environment of the tasks that it may run (shape.env + 1); 0 = has run none yet */
    pm_j64 env;
    pm_j64
        hosts; /* [J] mailbox of its actor: it runs nothing but that and its calls; 0 = has none */
    uint64_t pad3[5];
} pm_client_shm;

enum pm_kind { PM_DRIVER = 1, PM_KEEPER, PM_WORKER, PM_GUEST };

/* A worker that was stopped comes back; one that was dismissed is to end. */
enum pm_aside { PM_STOPPED = 1, PM_DISMISSED };

/* One reference argument of a task: 32 bytes. */
typedef struct {
    pm_j64 entry; /* [J] << 1 | 1 if the task waits for its value */
    pm_j64 generation;
    pm_j64 task;
    pm_j64 next; /* [J] offset of the next argument that waits for the same entry */
} pm_arg_shm;

/* A task from submit to finish: 576 bytes.
 *
 * Of a call that waits and is to keep its caller's order, words that have no other use before it is
 * ready say where it stands: `seq` who its caller is, `runner` the call before it that waits, `lent`
 * the one after it, `prev` the next in the mailbox's list of tails if there is none, `started` the
 * next in the header's list `following`.
 *
 * Of one that has ended, `lent` counts the results that can be made by running it again (lineage.h);
 * while there are some it is kept, and `seq` says what CPU it needs. */
typedef struct {
    pm_j64 state;  /* [J] enum pm_task_state */
    pm_j64 serial; /* [J] its number in the session, from 1: never another task's */
    pm_j64 parent; /* [J] serial of the task that submitted it, 0 = a program did */
    /* [J] free list, building list, ready queue, running list or finishing list */
    pm_j64 next, prev;
    pm_j64 seq;          /* [J] order of arrival; 0 = somebody waits for it */
    pm_j64 shape;        /* [J] queue it belongs to */
    pm_j64 function;     /* [J] entry of the function */
    pm_j64 runner;       /* [J] client slot */
    pm_j64 waiting;      /* [J] arguments not yet sealed, + 1 while it is being built */
    pm_j64 nargs, nrets; /* [J] */
    pm_j64 args_held;    /* [J] cursor: arguments counted */
    pm_j64 rets_made;    /* [J] cursor: result entries made, and not yet let go */
    /* [J] cursor: results that have their bytes, unpublished until the task ends */
    pm_j64 attached;
    pm_j64 retries; /* [J] left; UINT64_MAX = without end */
    pm_j64 attempt; /* [J] times it was started */
    pm_j64 held;    /* [J] CPU units that it has at this moment */
    pm_j64 table;   /* [J] heap block of arguments and results, if more than fit here */
    pm_j64 payload; /* [J] entry of the packed arguments, if more than fit here */
    pm_j64 size;    /* [J] packed arguments' bytes */
    pm_j64 cancel;  /* [J] enum pm_cancel; its runner looks beside the lock, too: a hint */
    pm_j64 bundle;  /* [J] where the rest of its shape's needs is from; 0 = has none */
    pm_j64 devices; /* [J] mask of the GPUs that it has, whole or a part of one */
    pm_j64 submitted, started; /* [J] ns; submitted 0 = it leaves no event */
    pm_j64 lent;               /* [J] 1 while it runs and is blocked */
    char name[PM_TASK_NAME];   /* [J] constant while the task exists, as are the three below */
    pm_arg_shm args[PM_TASK_ARGS];
    pm_j64 rets[PM_TASK_RETS];           /* [J] entry << 1 | 1 if it is an exception */
    unsigned char bytes[PM_TASK_INLINE]; /* packed arguments; constant while the task exists */
} pm_task_shm;

enum pm_task_state {
    PM_TASK_FREE,
    PM_TASK_BUILDING,
    PM_TASK_WAITING,
    PM_TASK_READY,
    PM_TASK_RUNNING,
    PM_TASK_FINISHING,
    /* its submitter died while building it, or it was cancelled and its results have told so; goes
     * when its arguments have settled */
    PM_TASK_ABANDONED,
    /* it has ended, and has a result that can be made by running it again: function and payload stay */
    PM_TASK_KEPT,
};

/* What was asked of a task: bits. A queued one has ended with that; of a running one its process
 * is to see to it. */
enum pm_cancel {
    PM_CANCEL_ASKED = 1,
    PM_CANCEL_FORCE = 2, /* its process is killed: from now on it cannot finish */
    PM_CANCEL_TREE = 4,  /* and the tasks that it has submitted */
    PM_CANCEL_TOLD = 8,  /* it has been interrupted: what it submits now is on purpose */
};

/* What became of one attempt of a task, a pm_event (events.h) word by word: 192 bytes. Readers take no
 * lock: what they copied is whole if `number` is the same before and after. */
typedef struct {
    pm_a64 number; /* [A] of the event, from 1; 0 while it is written, under the lock */
    pm_a64 words[23];
} pm_event_shm;

enum pm_resource { PM_CPU, PM_GPU, PM_MEMORY, PM_CUSTOM };

/* What tasks draw on: the machine, or what a placement group has reserved of it. GPUs are whole
 * devices, or one slice of a device. */
typedef struct {
    pm_j64 next;            /* [J] of its group, or free list */
    pm_j64 group;           /* [J] 0 = the machine's, or free */
    pm_j64 moved;           /* [J] 1: the group is removed, what comes back is the machine's */
    pm_j64 slice;           /* [J] device + 1 of which it has free[PM_GPU]; 0 = whole devices */
    pm_j64 devices;         /* [J] mask of those that are free as a whole */
    pm_j64 partial;         /* [J] mask of those in use in parts: header.left says what is left */
    pm_j64 total[PM_KINDS]; /* [J] constant while it is in use */
    pm_j64 free[PM_KINDS];  /* [J] signed: less than 0 when blocked tasks woke up in debt */
} pm_bundle_shm;

/* A placement group: some bundles, reserved together. */
typedef struct {
    pm_j64 state;             /* [J] enum pm_group_state */
    pm_j64 serial;            /* [J] its number in the session: never another group's */
    pm_j64 seq;               /* [J] order of arrival, among tasks too */
    pm_j64 owner;             /* [J] client slot it goes with, + 1; 0 = stays until it is removed */
    pm_j64 epoch;             /* [J] of that */
    pm_j64 first;             /* [J] bundle */
    pm_j64 count;             /* [J] of bundles */
    pm_j64 never;             /* [J] 1: what it asks for cannot be on one machine */
    pm_j64 how;               /* [J] strategy, a number for those who read it */
    pm_j64 users;             /* [J] tasks whose shape names it */
    pm_j64 listed;            /* [J] 1: on the list of those to clear up after */
    pm_j64 next;              /* [J] on that list */
    pm_j64 cursor;            /* [J] bundle that is given back next */
    char name[PM_GROUP_NAME]; /* constant while it exists */
} pm_group_shm;

enum pm_group_state { PM_GROUP_FREE, PM_GROUP_PENDING, PM_GROUP_READY, PM_GROUP_REMOVED };

/* What a task needs and from where, and the ready queue of all tasks that need the same. */
typedef struct {
    pm_j64 hash;       /* [J] of the needs and the place; 0 = never used */
    pm_j64 head, tail; /* [J] */
    pm_j64 users;      /* [J] tasks of it, in the queue or not; 0 = it may become another */
    pm_j64 kinds;      /* [J] mask of the needs that are not 0 */
    pm_j64 group;      /* [J] 0 = of the machine */
    pm_j64 serial;     /* [J] of the group */
    pm_j64 bundle;     /* [J] 0 = any of the group's */
    /* [J] entry that tells of the environment, kept while there are users; 0 = has none */
    pm_j64 env;
    pm_j64 alone;          /* [J] 1: not on the stack of a task that waits for it */
    pm_j64 need[PM_KINDS]; /* [J] */
    uint64_t pad[6];
} pm_shape_shm;

/* A key of the directory: 64 bytes. */
typedef struct {
    pm_j64 next; /* [J] bucket's chain or free list */
    pm_j64 entry;
    pm_j64 kept;                 /* [J] 1: the header has a reference to the entry */
    unsigned char bytes[PM_KEY]; /* constant while linked */
    unsigned char pad[12];
} pm_key_shm;

/* A table of records with a free list; records from `high` on were never used. */
typedef struct {
    pm_j64 free;
    pm_j64 high;
    pm_j64 live;
    uint64_t capacity; /* [C] */
    uint64_t offset;   /* [C] of the first record */
    uint64_t stride;   /* [C] */
    uint64_t link;     /* [C] offset of the free list's link in a record */
} pm_pool_shm;

typedef struct {
    pm_a64 magic;              /* [A] stored last on create */
    uint64_t version;          /* [C] */
    uint64_t fingerprint;      /* [C] of the sizes of everything here */
    uint64_t size;             /* [C] of the whole arena */
    uint64_t pid_ns;           /* [C] */
    unsigned char session[16]; /* [C] */
    uint64_t clients;          /* [C] offsets */
    uint64_t waiters;          /* [C] */
    uint64_t buckets;          /* [C] */
    uint64_t bucket_count;     /* [C] power of two */
    uint64_t events;           /* [C] */
    uint64_t present;    /* [C] bit per 64 KiB of heap whose pages all exist; its words are [A] */
    uint64_t owners;     /* [C] per 64 KiB of heap: entry with the block over its first byte; [A] */
    uint64_t used;       /* [C] per entry: when its block was last looked at (clock); [A] */
    uint64_t pages;      /* [C] */
    uint64_t disk_pages; /* [C] */
    uint64_t disk_bytes; /* [C] that may be spilled, in the units of disk.h; 0 = none */
    uint64_t heap;       /* [C] */
    uint64_t heap_bytes; /* [C] */
    uint64_t kinds;      /* [C] of resources */
    char kind_names[PM_KINDS][PM_KIND_NAME]; /* [C] */
    uint64_t total[PM_KINDS];                /* [C] what the session has */
    pm_a64 ending;                           /* [A] 1: the session is over, nobody may attach */
    pm_a64 expiry;      /* [A] ns: the keeper should look at kept objects then; 0 = never */
    pm_a64 serializers; /* [A] changes of the registry of custom serializers */
    pm_a64 recorded;    /* [A] events so far; raised under the lock */
    pm_a64 tickets;     /* [A] given so far to those who stand in line for heap; under the lock */
    pm_a64 lined;       /* [A] 1: somebody may stand in it */
    pm_a64 openings; /* [A] times that something may go to the disk which could not, while lined */
    pm_a64 clock;    /* [A] blocks made so far: the time by which objects are used */
    pm_a64 disk_fd;  /* [A] the driver's descriptor of the spill file, + 1; 0 = there is none */
    pm_a64 disk_pid; /* [A] the driver; this and the next two are written before that */
    pm_a64 disk_device, disk_inode; /* [A] */
    pm_a64 disk_errno;              /* [A] why the latest write of a copy failed; 0: it did not */
    /* [A] so far: copies written, objects brought back, and their bytes */
    pm_a64 spills, spilled_bytes, restores, restored_bytes;
    pm_a64 spilling_told; /* [A] 1: the program has been told that there are some */
    pm_a64 trimming;  /* [A] ns: until then what is free is about to be, and nothing is spilled */
    pm_a64 loose;     /* [A] 1: much has been given back since the keeper last trimmed (trim.h) */
    pm_a64 warm_from; /* [A] of the heap: where pages should be made ahead (warm.h); 0: nowhere */
    pm_a64
        huge; /* [A] 1: of huge pages, where the machine has some; written before others attach */
    pm_a64 unwatched; /* [A] 1: the keeper looks at no memory until a task is taken (load.h) */
    pm_a64 failed;    /* [A] 1: no worker can be started; `failure` says why, written before */
    char failure[PM_FAILURE];
    pm_pool_shm entries, holds, tasks, keys;
    pm_j64 client_high; /* [J] slots below it have been used */
    pm_j64 dying;       /* [J] entries whose last reference is gone */
    pm_j64 settling;    /* [J] sealed entries whose dependants have not all been told */
    pm_j64 finishing;   /* [J] tasks that have only to let go of what they hold */
    pm_j64 cpu_used;    /* [J] units that tasks hold, in debt or not */
    pm_j64 pending;     /* [J] groups that wait to be reserved */
    pm_j64 regroup;     /* [J] 1: one of them may fit now */
    pm_j64 removing;    /* [J] removed groups to clear up after */
    pm_j64 following;   /* [J] calls whose predecessor is ready, which they have not been told */
    pm_j64 closing;     /* [J] mailboxes of dead actors with calls to fail */
    pm_j64 litter;      /* [J] entries of which a copy on disk is left */
    pm_j64 kept;        /* [J] tasks in that state */
    pm_j64 group_serial;
    pm_j64 bundle_free; /* [J] free list */
    pm_j64 seq;         /* [J] */
    pm_j64 serial;      /* [J] of the latest task */
    pm_j64 ready;       /* [J] tasks in all queues */
    pm_j64 idle;        /* [J] idle workers, latest first */
    pm_j64 idle_count;  /* [J] */
    pm_j64 workers;     /* [J] attached */
    pm_j64 busy;        /* [J] clients with tasks on their stack */
    pm_j64 aside;       /* [J] workers set aside */
    pm_j64 hosts;       /* [J] workers that have become an actor's process */
    pm_j64 called;      /* [J] idle worker that was woken and has not looked yet */
    pm_j64 called_at;   /* [J] ns */
    pm_j64 boot;        /* [J] entry of the session's configuration, held by the header */
    pm_j64 shape_high;  /* [J] shapes below it have been used */
    pm_j64 mixed;       /* [J] 1: there has been a task that not every worker may run anywhere */
    pm_j64 queued[PM_SHAPES / 64]; /* [J] bit per shape with ready tasks */
    pm_j64 left[PM_DEVICES];       /* [J] units left of GPUs in use in parts */
    pm_shape_shm shapes[PM_SHAPES];
    pm_bundle_shm bundles[PM_BUNDLES]; /* the first is the machine */
    pm_group_shm groups[PM_GROUPS];
    pm_heap_shm heap_shm;
    pm_heap_shm disk_shm; /* extents of the spill file */
    pm_lock_shm lock;
} pm_header_shm;

_Static_assert(sizeof(pm_entry_shm) == 256, "four cache lines");
_Static_assert(offsetof(pm_entry_shm, bytes) == 112, "layout");
_Static_assert(PM_SITE % 8 == 0, "a word fits behind the call site");
_Static_assert(sizeof(pm_stream_shm) <= PM_INLINE, "a gate has room for its stream");
_Static_assert(sizeof(pm_mailbox_shm) + sizeof(pm_ref) <= PM_INLINE, "and a mailbox for its queue");
_Static_assert(sizeof(pm_hold_shm) == 64, "one cache line");
_Static_assert(sizeof(pm_waiter_shm) == 64, "one cache line");
_Static_assert(sizeof(pm_client_shm) == 256, "four cache lines");
_Static_assert(sizeof(pm_arg_shm) == 32, "two per cache line");
_Static_assert(sizeof(pm_task_shm) == 576, "nine cache lines");
_Static_assert(sizeof(pm_event_shm) == 192, "three cache lines");
_Static_assert(sizeof(pm_key_shm) == 64, "one cache line");
_Static_assert(sizeof(pm_shape_shm) == 256, "four cache lines");

#endif
