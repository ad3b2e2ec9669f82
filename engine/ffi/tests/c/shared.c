// A page that another process maps. The child is forked before there is a bus, so that it has the page by its descriptor alone.
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LEN (64 << 10)
#define SECOND UINT64_C(1000000000)

// How many commits, for tools that run one thread at a time: then luck is not asked for.
static const char *wanted;

static void send_word(int socket, char word, int descriptor) {
    struct iovec part = {.iov_base = &word, .iov_len = 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    CHECK(sendmsg(socket, &message, 0) == 1);
}

// Waits for a word, and gives the descriptor that came with it, or -1.
static int receive_word(int socket, char expected) {
    char word = 0;
    struct iovec part = {.iov_base = &word, .iov_len = 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    CHECK(recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1);
    if (word != expected) {
        fprintf(stderr, "the other process says %c, expected %c\n", word, expected);
        exit(1);
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int descriptor = -1;
    if (header != NULL)
        memcpy(&descriptor, CMSG_DATA(header), sizeof(int));
    return descriptor;
}

static int has_word(int socket) {
    char word;
    ssize_t got = recv(socket, &word, 1, MSG_PEEK | MSG_DONTWAIT);
    CHECK(got == 1 || (got == -1 && errno == EAGAIN));
    return got == 1;
}

// The next word, which is left.
static char peek_word(int socket) {
    char word = 0;
    CHECK(recv(socket, &word, 1, MSG_PEEK) == 1);
    return word;
}

static int is_torn(const uint8_t *bytes) { return memcmp(bytes, bytes + 1, LEN - 1) != 0; }

// Looks until the parent says that it is done, and says itself when the control has seen what it is there for.
static void watch(int socket, uint64_t shared, const uint8_t *mapped) {
    static uint8_t copy[LEN], in_place[LEN];
    mmsb_moment moment = {.size = sizeof moment};
    uint64_t last = 0, reads = 0, changes = 0, torn = 0, agreed = 0, refused = 0;
    while (!has_word(socket)) {
        OK(mmsb_shared_read(shared, 0, copy, LEN, 60 * SECOND, &moment));
        CHECK(moment.size == sizeof moment && moment.sequence % 2 == 0);
        if (is_torn(copy)) {
            fprintf(stderr, "torn at sequence %" PRIu64 ": %d and %d\n", moment.sequence, copy[0], copy[LEN - 1]);
            exit(1);
        }
        // Each commit fills the page with its number: what is read is what the moment says.
        CHECK(copy[0] == (uint8_t)moment.epoch && moment.lsn >= moment.epoch);
        CHECK(moment.sequence >= last);
        changes += moment.sequence > last;
        last = moment.sequence;
        reads++;
        // In place, with the check.
        if (mmsb_shared_begin(shared, SECOND, &moment) == MMSB_OK) {
            memcpy(in_place, mapped, LEN);
            int32_t status = mmsb_shared_check(shared, moment.sequence);
            CHECK(status == MMSB_OK || status == MMSB_BUSY);
            if (status == MMSB_OK) {
                CHECK(!is_torn(in_place));
                agreed++;
            } else {
                refused++;
            }
        }
        // The control: without it, in the middle of a commit, two can be seen.
        memcpy(in_place, mapped, LEN);
        if (is_torn(in_place) && torn++ == 0)
            send_word(socket, 't', -1);
    }
    printf("%" PRIu64 " reads, %" PRIu64 " of them new; in place %" PRIu64 " agreed to, %" PRIu64
           " not; %" PRIu64 " torn without a check\n",
           reads, changes, agreed, refused, torn);
    CHECK(changes > 1 && agreed > 0 && (refused > 0 || wanted != NULL));
}

static void nothing_can_be_done_to_it(int descriptor) {
    CHECK(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) == MAP_FAILED && errno == EPERM);
    void *mapped = mmap(NULL, 8192, PROT_READ, MAP_SHARED, descriptor, 0);
    CHECK(mapped != MAP_FAILED && mprotect(mapped, 8192, PROT_READ | PROT_WRITE) == -1);
    CHECK(munmap(mapped, 8192) == 0);
    CHECK(ftruncate(descriptor, 0) == -1 && write(descriptor, "x", 1) == -1);
    CHECK(fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192) == -1);
}

static int child(int socket) {
    int descriptor = receive_word(socket, 'd');
    nothing_can_be_done_to_it(descriptor);
    uint64_t shared = 0, page = 0;
    mmsb_bytes bytes;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_shared_open(descriptor, NULL, &page, &bytes));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_shared_open(-1, &shared, NULL, NULL));
    REFUSED(MMSB_INVALID_ARGUMENT, "shared.not-a-page", mmsb_shared_open(socket, &shared, NULL, NULL));
    OK(mmsb_shared_open(descriptor, &shared, &page, &bytes));
    CHECK(close(descriptor) == 0 && bytes.len == LEN);
    REFUSED(MMSB_INVALID_HANDLE, "handle.unknown", mmsb_shared_close(shared + 99));
    REFUSED(MMSB_WRONG_KIND, "handle.kind", mmsb_bus_sync(shared, NULL));
    mmsb_moment moment = {.size = 3};
    uint8_t byte;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_shared_begin(shared, 0, &moment));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_shared_begin(shared, 0, NULL));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_shared_read(shared, 0, &byte, 1, 0, &moment));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_shared_read(shared, 0, NULL, 1, 0, NULL));
    REFUSED(MMSB_PAGE, "read.out-of-range", mmsb_shared_read(shared, LEN, &byte, 1, 0, NULL));
    REFUSED(MMSB_PAGE, "read.out-of-range", mmsb_shared_read(shared, UINT64_MAX, &byte, 1, 0, NULL));
    REFUSED(MMSB_BUSY, "shared.changing", mmsb_shared_check(shared, 1));
    OK(mmsb_shared_read(shared, LEN, NULL, 0, 0, NULL));
    send_word(socket, 'r', -1);
    watch(socket, shared, bytes.data);
    receive_word(socket, 'e');

    // It goes, and what was there last stays.
    send_word(socket, 'r', -1);
    receive_word(socket, 'g');
    CHECK(!is_torn(bytes.data));
    uint8_t last = bytes.data[0];
    moment.size = sizeof moment;
    REFUSED(MMSB_PAGE, "shared.gone", mmsb_shared_read(shared, 0, &byte, 1, SECOND, NULL));
    REFUSED(MMSB_PAGE, "shared.gone", mmsb_shared_begin(shared, SECOND, &moment));
    REFUSED(MMSB_PAGE, "shared.gone", mmsb_shared_check(shared, 0));
    send_word(socket, 'r', -1);
    // Another page is in its place there now.
    receive_word(socket, 'w');
    CHECK(!is_torn(bytes.data) && bytes.data[0] == last);
    OK(mmsb_shared_close(shared));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_shared_close(shared));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_shared_read(shared, 0, &byte, 1, 0, NULL));

    // One whose bus is closed, and then one whose process dies.
    for (const char *end = "cd"; *end != 0; end++) {
        descriptor = receive_word(socket, 'd');
        OK(mmsb_shared_open(descriptor, &shared, NULL, &bytes));
        CHECK(close(descriptor) == 0);
        OK(mmsb_shared_read(shared, 0, &byte, 1, SECOND, NULL));
        CHECK(byte == 'a');
        send_word(socket, 'r', -1);
        if (*end == 'c') {
            receive_word(socket, 'c');
            REFUSED(MMSB_STATE, "shared.closed", mmsb_shared_read(shared, 0, &byte, 1, SECOND, NULL));
            CHECK(bytes.data[0] == 'a');
            send_word(socket, 'r', -1);
        } else {
            char word;
            CHECK(recv(socket, &word, 1, 0) == 0);
            OK(mmsb_shared_read(shared, 0, &byte, 1, SECOND, NULL));
            CHECK(byte == 'a');
        }
        OK(mmsb_shared_close(shared));
    }
    return 0;
}

static void fill(uint64_t bus, uint64_t page, uint8_t byte) {
    static uint8_t bytes[LEN];
    memset(bytes, byte, LEN);
    mmsb_write write = {.page = page, .offset = 0, .bytes = bytes, .len = LEN};
    OK(mmsb_commit_writes(bus, &write, 1, MMSB_MEMORY, 0, NULL));
}

static int exported(uint64_t bus, uint64_t page) {
    int32_t descriptor = -1;
    OK(mmsb_page_export(bus, page, &descriptor));
    CHECK(descriptor >= 0);
    return descriptor;
}

static void give(int socket, uint64_t bus, uint64_t page) {
    int descriptor = exported(bus, page);
    send_word(socket, 'd', descriptor);
    CHECK(close(descriptor) == 0);
}

static void refusals(uint64_t bus) {
    int32_t descriptor = -1;
    uint64_t page = new_page(bus, LEN), view = 0, small = new_page(bus, 100);
    uint64_t device = new_page_at(bus, 8192, MMSB_DEVICE_MEMORY);
    mmsb_bytes bytes;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_page_export(bus, page, NULL));
    REFUSED(MMSB_INVALID_HANDLE, "handle.null", mmsb_page_export(0, page, &descriptor));
    REFUSED(MMSB_PAGE, "page.unknown", mmsb_page_export(bus, 12345, &descriptor));
    REFUSED(MMSB_PAGE, "page.unknown", mmsb_page_withdraw(bus, 12345));
    REFUSED(MMSB_PAGE, "export.too-short", mmsb_page_export(bus, small, &descriptor));
    REFUSED(MMSB_PAGE, "export.not-host", mmsb_page_export(bus, device, &descriptor));
    OK(mmsb_view_one(bus, page, &view, &bytes));
    const uint8_t *address = bytes.data;
    REFUSED(MMSB_VIEW_HELD, "view.held", mmsb_page_export(bus, page, &descriptor));
    OK(mmsb_view_release(view));
    CHECK(descriptor == -1);
    fill(bus, page, 7);
    CHECK(close(exported(bus, page)) == 0);
    OK(mmsb_view_one(bus, page, &view, &bytes));
    CHECK(bytes.data == address && bytes.data[0] == 7 && bytes.data[LEN - 1] == 7);
    REFUSED(MMSB_VIEW_HELD, "view.held", mmsb_page_withdraw(bus, page));
    OK(mmsb_view_release(view));
    OK(mmsb_page_withdraw(bus, page));
    OK(mmsb_page_withdraw(bus, page));
    OK(mmsb_view_one(bus, page, &view, &bytes));
    CHECK(bytes.data == address && bytes.data[0] == 7 && bytes.data[LEN - 1] == 7);
    OK(mmsb_view_release(view));
    OK(free_page(bus, page));
    REFUSED(MMSB_PAGE, "page.stale", mmsb_page_export(bus, page, &descriptor));
}

// With as many mappings as the system allows, an export is refused, and the page is as it was.
#ifndef __SANITIZE_ADDRESS__
static void without_mappings(uint64_t bus) {
    enum { MOST = 1 << 20 };
    uint64_t page = new_page(bus, LEN), view = 0;
    mmsb_bytes bytes;
    fill(bus, page, 9);
    char **taken = calloc(MOST, sizeof *taken);
    CHECK(taken != NULL);
    int count = 0;
    while (count < MOST) {
        // Neighbours differ, so that they are not joined to one mapping.
        void *one = mmap(NULL, 4096, count % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (one == MAP_FAILED)
            break;
        taken[count++] = one;
    }
    int32_t descriptor = -1;
    if (count < MOST) {
        // However few are left: from none on until it works.
        int spare = 0;
        while (mmsb_page_export(bus, page, &descriptor) != MMSB_OK) {
            CHECK(strcmp(mmsb_last_error_kind(), "export.io") == 0 && descriptor == -1 && spare < 8);
            fill(bus, page, (uint8_t)(10 + spare));
            CHECK(munmap(taken[--count], 4096) == 0);
            spare++;
        }
        CHECK(spare > 0);
        printf("refused with %d mappings, and with up to %d fewer\n", count + spare, spare - 1);
        CHECK(close(descriptor) == 0);
        OK(mmsb_view_one(bus, page, &view, &bytes));
        CHECK(bytes.data[0] == 10 + spare - 1 && !is_torn(bytes.data));
        OK(mmsb_view_release(view));
    }
    while (count > 0)
        CHECK(munmap(taken[--count], 4096) == 0);
    free(taken);
    OK(free_page(bus, page));
}
#endif

int main(int argc, char **argv) {
    CHECK(argc == 2);
    wanted = getenv("MMSB_TEST_COMMITS");
    int sockets[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    fflush(stdout);
    pid_t reader = fork();
    CHECK(reader >= 0);
    if (reader == 0) {
        CHECK(close(sockets[0]) == 0);
        exit(child(sockets[1]));
    }
    CHECK(close(sockets[1]) == 0);
    int socket = sockets[0];
    mmsb_options options = small_options();
    options.retention = MMSB_RETAIN_CHECKPOINTS;
    uint64_t bus = 0;
    OK(mmsb_bus_open(argv[1], &options, &bus));
    refusals(bus);
#ifndef __SANITIZE_ADDRESS__
    if (wanted == NULL)
        without_mappings(bus);
#endif
    uint64_t page = new_page(bus, LEN), commits = wanted != NULL ? strtoull(wanted, NULL, 10) : 10000, number = 0;
    fill(bus, page, (uint8_t)++number);
    give(socket, bus, page);
    receive_word(socket, 'r');
    struct timespec now, begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        fill(bus, page, (uint8_t)++number);
        if (number % 500 == 0)
            OK(mmsb_bus_checkpoint(bus, NULL));
        clock_gettime(CLOCK_MONOTONIC, &now);
        // The control needs luck, above all with one processor.
    } while (number < commits || (wanted == NULL && !has_word(socket) && now.tv_sec < begin.tv_sec + 120));
    printf("%" PRIu64 " commits\n", number);
    CHECK(has_word(socket) || wanted != NULL);
    if (has_word(socket))
        receive_word(socket, 't');
    send_word(socket, 'e', -1);
    // Without luck asked for, it may come only now.
    if (wanted != NULL && peek_word(socket) == 't')
        receive_word(socket, 't');
    receive_word(socket, 'r');

    OK(free_page(bus, page));
    send_word(socket, 'g', -1);
    receive_word(socket, 'r');
    uint64_t next = new_page(bus, LEN);
    fill(bus, next, 'x');
    send_word(socket, 'w', -1);

    fill(bus, next, 'a');
    give(socket, bus, next);
    receive_word(socket, 'r');
    OK(mmsb_bus_close(bus));
    send_word(socket, 'c', -1);
    receive_word(socket, 'r');
    // What a new process, or a new bus in this one, exports is another file.
    OK(mmsb_bus_open(argv[1], &options, &bus));
    give(socket, bus, next);
    receive_word(socket, 'r');
    fflush(stdout);
    // Stands for a process that dies: the child must not need this one any more.
    CHECK(close(socket) == 0);
    int status = 0;
    CHECK(waitpid(reader, &status, 0) == reader && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    OK(mmsb_bus_close(bus));
    return 0;
}
