// Every function once as it should be called, and every way to call it wrongly.
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <poll.h>

static void versions(void) {
    CHECK(mmsb_abi_version() == MMSB_ABI_VERSION);
    CHECK(strlen(mmsb_version()) > 0);
    CHECK(strcmp(mmsb_status_name(MMSB_OK), "ok") == 0);
    CHECK(strcmp(mmsb_status_name(MMSB_OTHER), "other") == 0);
    CHECK(strcmp(mmsb_status_name(-1), "unknown") == 0);
    CHECK(strcmp(mmsb_status_name(1000), "unknown") == 0);
    int32_t present = -1;
    OK(mmsb_feature("transforms", &present));
    CHECK(present == 1);
    OK(mmsb_feature("no such feature", &present));
    CHECK(present == 0);
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_feature(NULL, &present));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_feature("cuda", NULL));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_feature("\xff", &present));
}

static void options(const char *directory) {
    uint64_t bus = 0;
    mmsb_options options = small_options();
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_open(NULL, &options, &bus));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_open(directory, &options, NULL));
    options.size = 0;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_open(directory, &options, &bus));
    options.size = 1000000;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_open(directory, &options, &bus));
    // A newer caller, that uses nothing new and that does.
    struct {
        mmsb_options known;
        uint64_t unknown;
    } newer = {.known = small_options(), .unknown = 1};
    newer.known.size = sizeof newer;
    REFUSED(MMSB_UNSUPPORTED, "abi.newer", mmsb_bus_open(directory, &newer.known, &bus));
    newer.unknown = 0;
    OK(mmsb_bus_open(directory, &newer.known, &bus));
    OK(mmsb_bus_close(bus));
    options = small_options();
    options.retention = 99;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_open(directory, &options, &bus));
    options = small_options();
    options.propagation = 2;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_open(directory, &options, &bus));
    options = small_options();
    options.device = 9;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_open(directory, &options, &bus));
    options = small_options();
    options.registry = 12345;
    REFUSED(MMSB_INVALID_HANDLE, "handle.unknown", mmsb_bus_open(directory, &options, &bus));
    options = small_options();
    options.segment_bytes = 5;
    REFUSED(MMSB_INVALID_ARGUMENT, "open.option", mmsb_bus_open(directory, &options, &bus));
    REFUSED(MMSB_IO, "open.io", mmsb_bus_open("/dev/null/nothing", NULL, &bus));
}

static void handles(const char *directory) {
    uint64_t bus = open_bus(directory), other = 0, transaction = 0, view = 0, page = 0;
    mmsb_options small = small_options();
    REFUSED(MMSB_IN_USE, "open.in-use", mmsb_bus_open(directory, &small, &other));
    REFUSED(MMSB_INVALID_HANDLE, "handle.null", mmsb_bus_sync(0, NULL));
    REFUSED(MMSB_INVALID_HANDLE, "handle.unknown", mmsb_bus_sync(UINT64_MAX, NULL));
    REFUSED(MMSB_INVALID_HANDLE, "handle.unknown", mmsb_bus_sync(bus + 1000, NULL));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_begin(bus, NULL));
    OK(mmsb_transaction_begin(bus, &transaction));
    REFUSED(MMSB_WRONG_KIND, "handle.kind", mmsb_bus_sync(transaction, NULL));
    REFUSED(MMSB_WRONG_KIND, "handle.kind", mmsb_view_release(transaction));
    REFUSED(MMSB_WRONG_KIND, "handle.kind", mmsb_transaction_commit(bus, MMSB_SYNC, 0, NULL));
    REFUSED(MMSB_WRONG_KIND, "handle.kind", mmsb_events_close(bus));
    REFUSED(MMSB_WRONG_KIND, "handle.kind", mmsb_registry_release(bus));
    REFUSED(MMSB_WRONG_KIND, "handle.kind", mmsb_replay_release(bus));
    REFUSED(MMSB_WRONG_KIND, "handle.kind", mmsb_bus_close(transaction));
    // Not aligned.
    union {
        uint64_t words[2];
        unsigned char bytes[16];
    } room;
    memset(&room, 0, sizeof room);
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_begin(bus, (uint64_t *)(void *)(room.bytes + 1)));
    // A bus with something open does not close, and says so.
    REFUSED(MMSB_BUSY, "bus.busy", mmsb_bus_close(bus));
    REFUSED(MMSB_BUSY, "bus.busy", mmsb_bus_abandon(bus));
    mmsb_statistics statistics = {.size = sizeof statistics};
    OK(mmsb_bus_statistics(bus, &statistics));
    CHECK(statistics.open_handles == 1);
    OK(mmsb_transaction_release(transaction));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_transaction_release(transaction));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_transaction_commit(transaction, MMSB_SYNC, 0, NULL));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_transaction_allocate(transaction, 1, MMSB_HOST, &page));
    page = new_page(bus, 64);
    mmsb_bytes bytes = {0};
    OK(mmsb_view_one(bus, page, &view, &bytes));
    OK(mmsb_view_release(view));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_view_release(view));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_view_page(view, 0, NULL, &bytes));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_view_lsn(view, &page));
    OK(mmsb_bus_close(bus));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_bus_close(bus));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_bus_checkpoint(bus, NULL));
    // The slot lives on under another handle; the old one stays refused.
    uint64_t again = open_bus(directory);
    CHECK(again != bus);
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_bus_sync(bus, NULL));
    OK(mmsb_bus_close(again));
}

static void transactions(const char *directory) {
    uint64_t bus = open_bus(directory), first = 0, second = 0, page = 0, other = 0, real = 0, lsn = 0;
    const uint8_t bytes[4] = {1, 2, 3, 4};
    OK(mmsb_transaction_begin(bus, &first));
    OK(mmsb_transaction_begin(bus, &second));
    REFUSED(MMSB_PAGE, "memory.length", mmsb_transaction_allocate(first, 0, MMSB_HOST, &page));
    REFUSED(MMSB_PAGE, "memory.length", mmsb_transaction_allocate(first, UINT64_MAX, MMSB_HOST, &page));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_allocate(first, 8, 7, &page));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_allocate(first, 8, MMSB_HOST, NULL));
    OK(mmsb_transaction_allocate(first, 8, MMSB_HOST, &page));
    OK(mmsb_transaction_allocate(second, 8, MMSB_HOST, &other));
    // A new page is of its transaction alone, and is none for the bus.
    REFUSED(MMSB_PAGE, "page.foreign", mmsb_transaction_write(first, other, 0, bytes, 4));
    REFUSED(MMSB_PAGE, "page.foreign", mmsb_transaction_write(second, page, 0, bytes, 4));
    REFUSED(MMSB_PAGE, "page.foreign", mmsb_transaction_write(first, page + 1, 0, bytes, 4));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_free(first, page));
    REFUSED(MMSB_PAGE, "page.unknown", mmsb_read_into(bus, page, 0, (uint8_t *)&real, 8));
    REFUSED(MMSB_PAGE, "page.unknown", mmsb_transaction_write(first, 99, 0, bytes, 4));
    REFUSED(MMSB_PAGE, "write.empty", mmsb_transaction_write(first, page, 0, bytes, 0));
    REFUSED(MMSB_PAGE, "write.out-of-range", mmsb_transaction_write(first, page, 5, bytes, 4));
    REFUSED(MMSB_PAGE, "write.out-of-range", mmsb_transaction_write(first, page, UINT64_MAX, bytes, 4));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_write(first, page, 0, NULL, 4));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_write(first, page, 0, bytes, SIZE_MAX));
    OK(mmsb_transaction_write(first, page, 4, bytes, 4));
    OK(mmsb_transaction_annotate(first, page, "name", (const uint8_t *)"one", 3));
    REFUSED(MMSB_PAGE, "metadata.limit", mmsb_transaction_annotate(first, page, "", bytes, 4));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_annotate(first, page, NULL, bytes, 4));
    REFUSED(MMSB_STATE, "state", mmsb_transaction_page(first, page, &real));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_commit(first, 9, 0, &lsn));
    OK(mmsb_transaction_commit(first, MMSB_SYNC, 0, &lsn));
    CHECK(lsn == 1);
    REFUSED(MMSB_STATE, "state", mmsb_transaction_commit(first, MMSB_SYNC, 0, &lsn));
    REFUSED(MMSB_STATE, "state", mmsb_transaction_write(first, page, 0, bytes, 4));
    OK(mmsb_transaction_page(first, page, &real));
    REFUSED(MMSB_PAGE, "page.foreign", mmsb_transaction_page(first, other, &real));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_page(first, real, &real));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_transaction_transferred(first, real, &other));
    OK(mmsb_transaction_release(first));
    OK(mmsb_transaction_release(second)); // discarded

    uint8_t read[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    OK(mmsb_read_into(bus, real, 0, read, 8));
    CHECK(memcmp(read, "\0\0\0\0\1\2\3\4", 8) == 0);
    REFUSED(MMSB_PAGE, "read.out-of-range", mmsb_read_into(bus, real, 5, read, 4));
    REFUSED(MMSB_PAGE, "read.out-of-range", mmsb_read_into(bus, real, UINT64_MAX, read, 4));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_read_into(bus, real, 0, NULL, 4));

    uint8_t value[8];
    size_t needed = 0;
    REFUSED(MMSB_BUFFER_TOO_SMALL, "buffer.too-small", mmsb_page_annotation(bus, real, "name", value, 2, &needed));
    CHECK(needed == 3);
    OK(mmsb_page_annotation(bus, real, "name", value, sizeof value, &needed));
    CHECK(needed == 3 && memcmp(value, "one", 3) == 0);
    REFUSED(MMSB_NOTHING, "metadata.none", mmsb_page_annotation(bus, real, "no", value, sizeof value, &needed));

    // Refused at the commit: only release is left.
    OK(mmsb_transaction_begin(bus, &first));
    OK(mmsb_transaction_free(first, real));
    OK(mmsb_transaction_free(first, real));
    REFUSED(MMSB_PAGE, "page.given-up-twice", mmsb_transaction_commit(first, MMSB_SYNC, 0, NULL));
    REFUSED(MMSB_STATE, "state", mmsb_transaction_commit(first, MMSB_SYNC, 0, NULL));
    OK(mmsb_transaction_release(first));

    // A transfer makes the old id stale.
    OK(mmsb_transaction_begin(bus, &first));
    OK(mmsb_transaction_transfer(first, real));
    OK(mmsb_transaction_commit(first, MMSB_BUFFERED, 0, NULL));
    OK(mmsb_transaction_transferred(first, real, &other));
    OK(mmsb_transaction_release(first));
    REFUSED(MMSB_PAGE, "page.stale", mmsb_read_into(bus, real, 0, read, 8));
    OK(mmsb_read_into(bus, other, 0, read, 8));
    OK(free_page(bus, other));
    REFUSED(MMSB_PAGE, "page.stale", mmsb_read_into(bus, other, 0, read, 8));

    mmsb_write writes[2] = {{.page = other, .offset = 0, .bytes = bytes, .len = 4},
                            {.page = other, .offset = 4, .bytes = NULL, .len = 4}};
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_commit_writes(bus, NULL, 2, MMSB_SYNC, 0, &lsn));
    REFUSED(MMSB_PAGE, "page.stale", mmsb_commit_writes(bus, writes, 1, MMSB_SYNC, 0, &lsn));
    writes[0].page = writes[1].page = new_page(bus, 8);
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_commit_writes(bus, writes, 2, MMSB_SYNC, 0, &lsn));
    writes[1].bytes = bytes;
    OK(mmsb_commit_writes(bus, writes, 2, MMSB_SYNC, 0, &lsn));
    OK(mmsb_read_into(bus, writes[0].page, 0, read, 8));
    CHECK(memcmp(read, "\1\2\3\4\1\2\3\4", 8) == 0);
    OK(mmsb_bus_close(bus));
}

static void events(const char *directory) {
    uint64_t bus = open_bus(directory), events = 0, pages[4];
    uint64_t page = new_page(bus, 8);
    OK(mmsb_events_open(bus, 2, &events));
    int descriptor = -1;
    OK(mmsb_events_fd(events, &descriptor));
    struct pollfd waiting = {.fd = descriptor, .events = POLLIN};
    CHECK(poll(&waiting, 1, 0) == 0);
    mmsb_event event = {.size = sizeof event};
    size_t needed = 9;
    REFUSED(MMSB_NOTHING, "events.none", mmsb_events_next(events, &event, pages, 4, &needed));
    for (int n = 0; n < 3; n++)
        OK(write_text(bus, page, 0, "x"));
    CHECK(poll(&waiting, 1, 0) == 1);
    REFUSED(MMSB_BUFFER_TOO_SMALL, "buffer.too-small", mmsb_events_next(events, &event, pages, 0, &needed));
    CHECK(needed == 1);
    OK(mmsb_events_next(events, &event, pages, 4, &needed));
    CHECK(event.lsn == 3 && event.lost == 1 && event.pages == 1 && pages[0] == page && needed == 1);
    CHECK(event.size == sizeof event);
    CHECK(poll(&waiting, 1, 0) == 1);
    OK(mmsb_events_next(events, &event, pages, 4, NULL));
    CHECK(event.lsn == 4 && event.lost == 0);
    CHECK(poll(&waiting, 1, 0) == 0);
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_events_next(events, NULL, pages, 4, NULL));
    // It may outlive the bus.
    OK(write_text(bus, page, 0, "y"));
    OK(mmsb_bus_close(bus));
    OK(mmsb_events_next(events, &event, pages, 4, NULL));
    CHECK(event.lsn == 5);
    OK(mmsb_events_close(events));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_events_fd(events, &descriptor));
}

static void past(const char *directory) {
    uint64_t bus = open_bus(directory), page = new_page(bus, 16), replay = 0, view = 0, lsn = 0, id = 0;
    uint8_t now[32], then[32], later[32];
    mmsb_options options = small_options();
    OK(write_text(bus, page, 0, "first"));
    OK(mmsb_bus_digest(bus, now));
    OK(mmsb_bus_sync(bus, &lsn));
    CHECK(lsn == 2);
    OK(write_text(bus, page, 0, "second"));
    mmsb_checkpoint_report report = {.size = sizeof report};
    OK(mmsb_bus_checkpoint(bus, &report));
    printf("checkpoint: %" PRIu64 " images of %" PRIu64 " bytes\n", report.images, report.image_bytes);
    CHECK(report.images == 1 && report.image_bytes >= 16 && report.replay_after <= 3 && report.size == sizeof report);
    report.size = 3;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_checkpoint(bus, &report));
    OK(mmsb_bus_checkpoint(bus, NULL));
    OK(mmsb_bus_maintain(bus, NULL));
    OK(mmsb_bus_propagate(bus));
    OK(mmsb_bus_restore_device(bus));
    OK(mmsb_bus_close(bus));
    OK(mmsb_replay_open(directory, lsn, &options, &replay));
    OK(mmsb_replay_lsn(replay, &id));
    CHECK(id == lsn);
    OK(mmsb_replay_digest(replay, then));
    CHECK(memcmp(now, then, 32) == 0);
    size_t needed = 0;
    uint64_t pages[2];
    OK(mmsb_replay_pages(replay, pages, 2, &needed));
    CHECK(needed == 1 && pages[0] == page);
    OK(mmsb_replay_view(replay, pages, 1, &view));
    OK(mmsb_replay_release(replay));
    mmsb_bytes bytes = {0};
    OK(mmsb_view_page(view, 0, &id, &bytes));
    CHECK(id == page && bytes.len == 16 && memcmp(bytes.data, "first", 6) == 0);
    OK(mmsb_view_release(view));
    OK(mmsb_replay_open(directory, MMSB_END, &options, &replay));
    OK(mmsb_replay_digest(replay, later));
    CHECK(memcmp(now, later, 32) != 0);
    OK(mmsb_replay_release(replay));
    REFUSED(MMSB_DAMAGED, "replay.beyond-end", mmsb_replay_open(directory, 1000, &options, &replay));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_replay_digest(replay, later));

    char text[1024];
    REFUSED(MMSB_BUFFER_TOO_SMALL, "buffer.too-small", mmsb_doctor(directory, text, 10, &needed));
    CHECK(needed > 10);
    OK(mmsb_doctor(directory, text, sizeof text, &needed));
    CHECK(strlen(text) == needed && strstr(text, "\"clean\":true") && strstr(text, "\"last_lsn\":3"));
    REFUSED(MMSB_IO, "open.io", mmsb_doctor("/no such directory", text, sizeof text, NULL));
}

static void information(const char *directory) {
    uint64_t bus = open_bus(directory), a = new_page(bus, 64), b = new_page(bus, 64), transaction = 0, pages[4];
    OK(mmsb_transaction_begin(bus, &transaction));
    const uint64_t parents[1] = {a};
    OK(mmsb_transaction_connect(transaction, b, "copy", 1, NULL, 0, parents, 1));
    OK(mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_release(transaction));
    OK(write_text(bus, a, 0, "both"));
    REFUSED(MMSB_PAGE, "write.derived", write_text(bus, b, 0, "no"));
    char read[5] = {0};
    OK(mmsb_read_into(bus, b, 0, (uint8_t *)read, 4));
    CHECK(strcmp(read, "both") == 0);
    mmsb_page_info info = {.size = sizeof info};
    OK(mmsb_page_describe(bus, b, &info));
    CHECK(info.len == 64 && info.is_derived == 1 && info.parents == 1 && info.location == MMSB_HOST);
    size_t needed = 0;
    OK(mmsb_page_parents(bus, b, pages, 4, &needed));
    CHECK(needed == 1 && pages[0] == a);
    OK(mmsb_bus_pages(bus, NULL, 0, &needed) == MMSB_BUFFER_TOO_SMALL ? MMSB_OK : 1);
    CHECK(needed == 2);
    OK(mmsb_bus_pages(bus, pages, 4, &needed));
    CHECK(pages[0] == a && pages[1] == b);
    mmsb_statistics statistics = {.size = sizeof statistics};
    OK(mmsb_bus_statistics(bus, &statistics));
    CHECK(statistics.live_pages == 2 && statistics.derived_pages == 1 && statistics.open_handles == 0);
    // An older caller, which knows less.
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_statistics(bus, NULL));
    CHECK(statistics.allocations_total >= statistics.live_pages);
    CHECK(statistics.footprint_bytes >= statistics.live_bytes);
    mmsb_open_report opened = {.size = sizeof opened};
    OK(mmsb_bus_opened(bus, &opened));
    CHECK(opened.created == 1 && opened.last_lsn == 0 && opened.torn == 0 && opened.warnings == 0);
    CHECK(opened.size == sizeof opened && opened.has_checkpoint == 0 && opened.applied == 0);
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_opened(bus, NULL));
    REFUSED(MMSB_INVALID_HANDLE, "handle.null", mmsb_bus_opened(0, &opened));
    opened.size = 8;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_bus_opened(bus, &opened));
    OK(mmsb_transaction_begin(bus, &transaction));
    const uint64_t itself[1] = {b};
    OK(mmsb_transaction_connect(transaction, a, "copy", 1, NULL, 0, itself, 1));
    REFUSED(MMSB_GRAPH, "graph.cycle", mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_release(transaction));
    OK(mmsb_transaction_begin(bus, &transaction));
    OK(mmsb_transaction_disconnect(transaction, b));
    OK(mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_release(transaction));
    OK(write_text(bus, b, 0, "mine"));

    // Device pages: the built-in device is host memory, and its pages read as copies.
    uint64_t device = new_page_at(bus, 4096, MMSB_DEVICE_MEMORY), view = 0;
    OK(write_text(bus, device, 1, "gpu"));
    OK(mmsb_read_into(bus, device, 1, (uint8_t *)read, 3));
    CHECK(memcmp(read, "gpu", 3) == 0);
    mmsb_device_page place = {.size = sizeof place};
    OK(mmsb_view_device(bus, device, &view, &place));
    CHECK(place.len == 4096 && place.device == MMSB_DEVICE_HOST);
    mmsb_bytes bytes;
    REFUSED(MMSB_NOTHING, "view.position", mmsb_view_page(view, 0, NULL, &bytes));
    REFUSED(MMSB_VIEW_HELD, "view.held", write_text(bus, device, 1, "new"));
    OK(mmsb_view_release(view));
    REFUSED(MMSB_PAGE, "page.not-on-device", mmsb_view_device(bus, a, &view, &place));
    OK(mmsb_bus_close(bus));
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    char directory[4096];
    struct {
        const char *name;
        void (*test)(const char *directory);
    } tests[] = {{"options", options}, {"handles", handles}, {"transactions", transactions},
                 {"events", events},   {"past", past},       {"information", information}};
    versions();
    for (size_t n = 0; n < sizeof tests / sizeof tests[0]; n++) {
        snprintf(directory, sizeof directory, "%s/%s", argv[1], tests[n].name);
        tests[n].test(directory);
        printf("%s: ok\n", tests[n].name);
    }
    return 0;
}
