// Pools of views, held while everything that could take the pages away is tried, by threads that release each other's.
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define PAGES 40

static void one_thread(const char *directory) {
    uint64_t bus = open_bus(directory), pages[PAGES], views[PAGES];
    mmsb_bytes bytes[PAGES];
    char text[32];
    for (int n = 0; n < PAGES; n++) {
        pages[n] = new_page(bus, 100 + n);
        snprintf(text, sizeof text, "page %d", n);
        OK(write_text(bus, pages[n], 0, text));
    }
    uint64_t others = new_page(bus, 8);
    for (int n = 0; n < PAGES; n++) {
        OK(mmsb_view_one(bus, pages[n], &views[n], &bytes[n]));
        CHECK(bytes[n].len == (uint64_t)(100 + n));
    }
    uint64_t many = 0, id = 0, lsn = 0;
    OK(mmsb_view_open(bus, pages, PAGES, &many));
    OK(mmsb_view_lsn(many, &lsn));
    // The last write was commit 2 * PAGES: each page was allocated and written.
    CHECK(lsn == 2 * PAGES);
    mmsb_bytes same;
    for (int n = 0; n < PAGES; n++) {
        OK(mmsb_view_page(many, n, &id, &same));
        CHECK(id == pages[n] && same.data == bytes[n].data && same.len == bytes[n].len);
    }
    REFUSED(MMSB_NOTHING, "view.position", mmsb_view_page(many, PAGES, &id, &same));

    // What would change or take the pages is refused at once; what does not goes on.
    for (int n = 0; n < PAGES; n++) {
        REFUSED(MMSB_VIEW_HELD, "view.held", write_text(bus, pages[n], 0, "never"));
        REFUSED(MMSB_VIEW_HELD, "view.held", free_page(bus, pages[n]));
    }
    OK(write_text(bus, others, 0, "goes on"));
    OK(mmsb_bus_checkpoint(bus, NULL));
    OK(mmsb_bus_sync(bus, NULL));
    uint8_t digest[32];
    OK(mmsb_bus_digest(bus, digest));
    REFUSED(MMSB_BUSY, "bus.busy", mmsb_bus_close(bus));
    uint64_t refused = 0;
    OK(mmsb_transaction_begin(bus, &refused));
    OK(mmsb_transaction_write(refused, pages[3], 0, (const uint8_t *)"later ", 6));
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    REFUSED(MMSB_VIEW_HELD, "view.held", mmsb_transaction_commit(refused, MMSB_MEMORY, 30 * 1000 * 1000, NULL));
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 29);
    for (int n = 0; n < PAGES; n++) {
        snprintf(text, sizeof text, "page %d", n);
        CHECK(strcmp((const char *)bytes[n].data, text) == 0);
        OK(mmsb_view_release(views[n]));
    }
    // The view of all still holds each.
    REFUSED(MMSB_VIEW_HELD, "view.held", write_text(bus, pages[0], 0, "never"));
    OK(mmsb_view_release(many));
    // The very transaction that was refused.
    OK(mmsb_transaction_commit(refused, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_release(refused));
    OK(mmsb_view_one(bus, pages[3], &views[3], &bytes[3]));
    CHECK(memcmp(bytes[3].data, "later 3", 7) == 0 || memcmp(bytes[3].data, "later ", 6) == 0);
    OK(mmsb_view_release(views[3]));
    OK(free_page(bus, pages[0]));
    OK(mmsb_bus_close(bus));
}

// Threads that open views, hand them to each other, and commit meanwhile.
static uint64_t shared_bus, shared_pages[8];
static _Atomic uint64_t mailbox;
static atomic_int commits, held, stop;

static void *reader(void *unused) {
    (void)unused;
    while (!atomic_load(&stop)) {
        uint64_t view = 0;
        mmsb_bytes bytes;
        OK(mmsb_view_open(shared_bus, shared_pages, 8, &view));
        uint64_t first = 0, other = 0;
        for (int n = 0; n < 8; n++) {
            OK(mmsb_view_page(view, n, NULL, &bytes));
            memcpy(&other, bytes.data, 8);
            if (n == 0)
                first = other;
            // Each commit writes the same number to all pages: a view is of one moment.
            CHECK(first == other);
        }
        // Some are released here; of others the other reader, or a writer, releases one that was left.
        if (first % 3 == 0) {
            uint64_t left = atomic_exchange(&mailbox, view);
            if (left != 0)
                OK(mmsb_view_release(left));
        } else {
            OK(mmsb_view_release(view));
        }
        struct timespec nap = {.tv_nsec = 100 * 1000};
        nanosleep(&nap, NULL);
    }
    return NULL;
}

static void *writer(void *unused) {
    (void)unused;
    for (uint64_t number = 1; number <= 300; number++) {
        mmsb_write writes[8];
        for (int n = 0; n < 8; n++) {
            mmsb_write one = {.page = shared_pages[n], .offset = 0, .bytes = (const uint8_t *)&number, .len = 8};
            writes[n] = one;
        }
        int32_t status = mmsb_commit_writes(shared_bus, writes, 8, MMSB_MEMORY, number % 2 * 50000, NULL);
        CHECK(status == MMSB_OK || status == MMSB_VIEW_HELD);
        atomic_fetch_add(status == MMSB_OK ? &commits : &held, 1);
        if (status == MMSB_VIEW_HELD) {
            // Whoever cannot do without waits a little, for a view that is in the mailbox is held by nobody.
            uint64_t left = atomic_exchange(&mailbox, 0);
            if (left != 0)
                OK(mmsb_view_release(left));
        }
    }
    return NULL;
}

static void threads(const char *directory) {
    shared_bus = open_bus(directory);
    for (int n = 0; n < 8; n++)
        shared_pages[n] = new_page(shared_bus, 64);
    pthread_t readers[2], writers[2];
    for (int n = 0; n < 2; n++) {
        CHECK(pthread_create(&readers[n], NULL, reader, NULL) == 0);
        CHECK(pthread_create(&writers[n], NULL, writer, NULL) == 0);
    }
    for (int n = 0; n < 2; n++)
        CHECK(pthread_join(writers[n], NULL) == 0);
    atomic_store(&stop, 1);
    for (int n = 0; n < 2; n++)
        CHECK(pthread_join(readers[n], NULL) == 0);
    uint64_t left = atomic_exchange(&mailbox, 0);
    if (left != 0)
        OK(mmsb_view_release(left));
    printf("commits %d, refused because of views %d\n", commits, held);
    CHECK(commits + held == 600 && commits > 0);
    uint64_t number = 7;
    mmsb_write last = {.page = shared_pages[0], .offset = 0, .bytes = (const uint8_t *)&number, .len = 8};
    OK(mmsb_commit_writes(shared_bus, &last, 1, MMSB_MEMORY, 0, NULL));
    OK(mmsb_bus_close(shared_bus));
}

// One transaction, two threads: the second is told, and nothing breaks.
static uint64_t contended;
static atomic_int went, busy;

static void *contend(void *unused) {
    (void)unused;
    for (int n = 0; n < 20000; n++) {
        int32_t status = mmsb_transaction_write(contended, shared_pages[0], 0, (const uint8_t *)"x", 1);
        CHECK(status == MMSB_OK || status == MMSB_BUSY);
        atomic_fetch_add(status == MMSB_OK ? &went : &busy, 1);
    }
    return NULL;
}

static void contention(const char *directory) {
    uint64_t bus = open_bus(directory);
    shared_pages[0] = new_page(bus, 8);
    OK(mmsb_transaction_begin(bus, &contended));
    pthread_t workers[2];
    for (int n = 0; n < 2; n++)
        CHECK(pthread_create(&workers[n], NULL, contend, NULL) == 0);
    for (int n = 0; n < 2; n++)
        CHECK(pthread_join(workers[n], NULL) == 0);
    printf("writes %d, refused because of another call %d\n", went, busy);
    CHECK(went + busy == 40000);
    OK(mmsb_transaction_commit(contended, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_release(contended));
    OK(mmsb_bus_close(bus));
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    char directory[4096];
    snprintf(directory, sizeof directory, "%s/one", argv[1]);
    one_thread(directory);
    snprintf(directory, sizeof directory, "%s/threads", argv[1]);
    threads(directory);
    snprintf(directory, sizeof directory, "%s/contention", argv[1]);
    contention(directory);
    return 0;
}
