/* atomic.h - the three kinds of shared words, and atomics named by their memory order.
 *
 * Every word of the arena that changes after creation is exactly one of these types [design.md
 * section 4]:
 *
 *   pm_j64  journaled  read and written under the arena's lock only; changed by pm_set() (lock.h), or by
 *                      pm_init() while no committed state reaches the record it is in
 *   pm_a64  atomic     changed by single idempotent or commutative operations, never journaled
 *   pm_p64  published  read without the lock; changed by pm_publish() (lock.h): one release-store
 *                      after the commit that it announces, completed by recovery if the writer
 *                      dies in between. Of an entry that nobody else can refer to, its owner
 *                      stores it directly (reserve.h)
 *
 * The kinds are distinct C types, so the compiler refuses to journal an atomic word or to
 * publish a journaled one: what a debug build would catch at run time cannot be built.
 */
#ifndef PM_ATOMIC_H
#define PM_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t v;
} pm_j64;
typedef struct {
    _Atomic uint64_t v;
} pm_a64;
typedef struct {
    _Atomic uint64_t v;
} pm_p64;
typedef struct {
    _Atomic uint32_t v;
} pm_futex; /* atomic; the word a thread sleeps on */

static inline uint64_t pm_a64_load(const pm_a64 *w)
{
    return atomic_load_explicit(&w->v, memory_order_acquire);
}
static inline void pm_a64_store(pm_a64 *w, uint64_t x)
{
    atomic_store_explicit(&w->v, x, memory_order_release);
}
static inline uint64_t pm_a64_add(pm_a64 *w, uint64_t x)
{
    return atomic_fetch_add_explicit(&w->v, x, memory_order_acq_rel);
}
static inline uint64_t pm_a64_sub(pm_a64 *w, uint64_t x)
{
    return atomic_fetch_sub_explicit(&w->v, x, memory_order_acq_rel);
}
static inline uint64_t pm_a64_swap(pm_a64 *w, uint64_t x)
{
    return atomic_exchange_explicit(&w->v, x, memory_order_acq_rel);
}
static inline bool pm_a64_cas(pm_a64 *w, uint64_t *expected, uint64_t x)
{
    return atomic_compare_exchange_weak_explicit(&w->v, expected, x, memory_order_acq_rel,
                                                 memory_order_acquire);
}
static inline uint64_t pm_p64_load(const pm_p64 *w)
{
    return atomic_load_explicit(&w->v, memory_order_acquire);
}

/* Orders this process's own stores as its death would reveal them. Death is not a power failure:
 * the kernel's exit path makes every store issued before it visible, so only the compiler must
 * not reorder [R 29]. */
static inline void pm_compiler_fence(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void pm_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    pm_compiler_fence();
#endif
}

#endif
