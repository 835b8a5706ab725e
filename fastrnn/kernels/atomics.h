/* Numbers that one worker changes while another looks. */
#ifndef FASTRNN_ATOMICS_H
#define FASTRNN_ATOMICS_H

#define atomic_get(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define atomic_set(p, value) __atomic_store_n(p, value, __ATOMIC_SEQ_CST)
#define atomic_swap(p, value) __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST)
#define atomic_see(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define atomic_publish(p, value) __atomic_store_n(p, value, __ATOMIC_RELEASE)

#endif
