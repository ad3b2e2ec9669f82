// What the tests share.
#ifndef CHECK_H
#define CHECK_H

#include <mmsb.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                       \
    do {                                                                                                       \
        if (!(condition)) {                                                                                    \
            fprintf(stderr, "%s:%d: not so: %s\n  last error: %s: %s\n", __FILE__, __LINE__, #condition,       \
                    mmsb_last_error_kind(), mmsb_last_error_message());                                        \
            exit(1);                                                                                           \
        }                                                                                                      \
    } while (0)

// The call has to work.
#define OK(call) CHECK((call) == MMSB_OK)

// The call has to be refused with this status and this kind of error, and a message.
#define REFUSED(status, kind, call)                                                                            \
    do {                                                                                                       \
        int32_t refused_ = (call);                                                                             \
        if (refused_ != (status) || strcmp(mmsb_last_error_kind(), (kind)) != 0 ||                              \
            mmsb_last_error_message()[0] == 0) {                                                               \
            fprintf(stderr, "%s:%d: %s gave %d (%s, %s: %s), expected %s %s\n", __FILE__, __LINE__, #call,     \
                    refused_, mmsb_status_name(refused_), mmsb_last_error_kind(), mmsb_last_error_message(),     \
                    #status, (kind));                                                                          \
            exit(1);                                                                                           \
        }                                                                                                      \
    } while (0)

// Small enough for valgrind.
static inline mmsb_options small_options(void) {
    mmsb_options options = {.size = sizeof options, .arena_bytes = 64 << 20, .segment_bytes = 1 << 20};
    return options;
}

static inline uint64_t open_bus(const char *directory) {
    mmsb_options options = small_options();
    uint64_t bus = 0;
    OK(mmsb_bus_open(directory, &options, &bus));
    return bus;
}

// A page of `len` bytes, allocated in a transaction of its own.
static inline uint64_t new_page_at(uint64_t bus, uint64_t len, uint32_t location) {
    uint64_t transaction = 0, page = 0;
    OK(mmsb_transaction_begin(bus, &transaction));
    OK(mmsb_transaction_allocate(transaction, len, location, &page));
    OK(mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_page(transaction, page, &page));
    OK(mmsb_transaction_release(transaction));
    return page;
}

static inline uint64_t new_page(uint64_t bus, uint64_t len) { return new_page_at(bus, len, MMSB_HOST); }

static inline int32_t write_text(uint64_t bus, uint64_t page, uint64_t offset, const char *text) {
    mmsb_write write = {.page = page, .offset = offset, .bytes = (const uint8_t *)text, .len = strlen(text)};
    return mmsb_commit_writes(bus, &write, 1, MMSB_MEMORY, 0, NULL);
}

static inline int32_t free_page(uint64_t bus, uint64_t page) {
    uint64_t transaction = 0;
    OK(mmsb_transaction_begin(bus, &transaction));
    OK(mmsb_transaction_free(transaction, page));
    int32_t status = mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, NULL);
    OK(mmsb_transaction_release(transaction));
    return status;
}

#endif
