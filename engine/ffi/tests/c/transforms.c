// Transforms whose code is in C.
#include "check.h"

#include <stdatomic.h>

static atomic_int destroyed;
static uint64_t reentered_bus;
static atomic_int reentered;

typedef struct {
    uint8_t add;
    atomic_int calls;
} state;

// Adds a number to every byte of the only parent, and the first parameter, if there is one.
static int32_t add(void *user_data, const mmsb_compute *work) {
    state *own = user_data;
    atomic_fetch_add(&own->calls, 1);
    if (work->size < sizeof *work || work->input_count != 1 || work->inputs[0].len != work->output_len)
        return 1;
    uint8_t more = work->params.len > 0 ? work->params.data[0] : 0;
    for (uint64_t n = 0; n < work->out_len; n++)
        work->out[n] = (uint8_t)(work->inputs[0].data[work->start + n] + own->add + more);
    return 0;
}

static int32_t fail(void *user_data, const mmsb_compute *work) {
    (void)user_data;
    memset(work->out, 1, work->out_len);
    snprintf(work->error, work->error_capacity, "byte 0 is %d", work->inputs[0].data[0]);
    return work->inputs[0].data[0] > 100 ? 7 : 0;
}

static int32_t reenter(void *user_data, const mmsb_compute *work) {
    (void)user_data;
    uint64_t bus = reentered_bus, transaction = 0;
    uint8_t byte;
    if (mmsb_read_into(bus, 0, 0, &byte, 1) == MMSB_REENTERED &&
        mmsb_transaction_begin(bus, &transaction) == MMSB_REENTERED && mmsb_bus_close(bus) == MMSB_REENTERED)
        atomic_fetch_add(&reentered, 1);
    memset(work->out, 1, work->out_len);
    return 0;
}

static void destroy(void *user_data) {
    (void)user_data;
    atomic_fetch_add(&destroyed, 1);
}

static uint64_t derive(uint64_t bus, uint64_t parent, const char *name, uint64_t len, uint8_t param) {
    uint64_t transaction = 0, page = 0;
    OK(mmsb_transaction_begin(bus, &transaction));
    OK(mmsb_transaction_allocate(transaction, len, MMSB_HOST, &page));
    OK(mmsb_transaction_connect(transaction, page, name, 1, &param, param ? 1 : 0, &parent, 1));
    OK(mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_page(transaction, page, &page));
    OK(mmsb_transaction_release(transaction));
    return page;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    state own = {.add = 3};
    uint64_t registry = 0, bus = 0, other = 0;
    OK(mmsb_registry_create(&registry));
    mmsb_transform transform = {.size = sizeof transform,
                                .name = "add",
                                .version = 1,
                                .mapping = MMSB_MAP_SAME_OFFSET,
                                .parents = 1,
                                .user_data = &own,
                                .compute = add,
                                .destroy = destroy};
    OK(mmsb_registry_add(registry, &transform));
    REFUSED(MMSB_GRAPH, "transform.duplicate", mmsb_registry_add(registry, &transform));
    CHECK(destroyed == 1); // The refused one was handed over, too.
    mmsb_transform wrong = transform;
    wrong.compute = NULL;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_registry_add(registry, &wrong));
    wrong = transform;
    wrong.name = NULL;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_registry_add(registry, &wrong));
    wrong = transform;
    wrong.version = 0;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_registry_add(registry, &wrong));
    wrong = transform;
    wrong.granule_bytes = 3;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_registry_add(registry, &wrong));
    wrong = transform;
    wrong.mapping = 5;
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_registry_add(registry, &wrong));
    REFUSED(MMSB_INVALID_ARGUMENT, "argument", mmsb_registry_add(registry, NULL));
    CHECK(destroyed == 1);
    mmsb_transform failing = {.size = sizeof failing, .name = "fail", .version = 1, .compute = fail};
    OK(mmsb_registry_add(registry, &failing));
    mmsb_transform entering = {.size = sizeof entering, .name = "reenter", .version = 1, .compute = reenter};
    OK(mmsb_registry_add(registry, &entering));

    char directory[4096];
    snprintf(directory, sizeof directory, "%s/bus", argv[1]);
    mmsb_options options = small_options();
    options.registry = registry;
    options.threads = 2;
    OK(mmsb_bus_open(directory, &options, &bus));
    OK(mmsb_registry_release(registry));
    REFUSED(MMSB_INVALID_HANDLE, "handle.stale", mmsb_registry_add(registry, &transform));
    CHECK(destroyed == 2); // What was to be added; the bus uses the first one still.
    reentered_bus = bus;

    uint64_t base = new_page(bus, 1 << 20);
    uint64_t first = derive(bus, base, "add", 1 << 20, 0), second = derive(bus, first, "add", 1 << 20, 10);
    uint8_t byte = 0;
    OK(mmsb_read_into(bus, second, 5, &byte, 1));
    CHECK(byte == 3 + 3 + 10);
    // A change of two bytes is computed as one, not as the page.
    own.calls = 0;
    OK(write_text(bus, base, 5, "AB"));
    CHECK(own.calls == 2);
    OK(mmsb_read_into(bus, second, 6, &byte, 1));
    CHECK(byte == 'B' + 16);
    // Wrong lengths and numbers of parents are refused at the commit.
    uint64_t transaction = 0, page = 0, two[2] = {base, first};
    OK(mmsb_transaction_begin(bus, &transaction));
    OK(mmsb_transaction_allocate(transaction, 8, MMSB_HOST, &page));
    OK(mmsb_transaction_connect(transaction, page, "add", 1, NULL, 0, &base, 1));
    REFUSED(MMSB_GRAPH, "graph.refused", mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_release(transaction));
    OK(mmsb_transaction_begin(bus, &transaction));
    OK(mmsb_transaction_allocate(transaction, 1 << 20, MMSB_HOST, &page));
    OK(mmsb_transaction_connect(transaction, page, "add", 1, NULL, 0, two, 2));
    REFUSED(MMSB_GRAPH, "graph.refused", mmsb_transaction_commit(transaction, MMSB_MEMORY, 0, NULL));
    OK(mmsb_transaction_release(transaction));

    // One that fails makes its page stale, with its own words, and nothing else.
    uint64_t small = new_page(bus, 4), broken = derive(bus, small, "fail", 4, 0);
    OK(mmsb_read_into(bus, broken, 0, &byte, 1));
    OK(write_text(bus, small, 0, "\xc8"));
    REFUSED(MMSB_GRAPH, "derived.stale", mmsb_read_into(bus, broken, 0, &byte, 1));
    CHECK(strstr(mmsb_last_error_message(), "byte 0 is 200"));
    OK(write_text(bus, small, 0, "\x01"));
    OK(mmsb_read_into(bus, broken, 0, &byte, 1));

    // One that calls the library is refused there, and goes on.
    uint64_t entered = derive(bus, small, "reenter", 4, 0);
    CHECK(reentered > 0);
    OK(mmsb_read_into(bus, entered, 0, &byte, 1));
    CHECK(byte == 1);

    uint8_t digest[32], replayed[32];
    OK(mmsb_bus_digest(bus, digest));
    OK(mmsb_bus_close(bus));
    CHECK(destroyed == 3);
    // Without the transforms the log does not open, and says which is missing.
    mmsb_options without = small_options();
    int32_t status = mmsb_bus_open(directory, &without, &other);
    CHECK(status != MMSB_OK && strstr(mmsb_last_error_message(), "add"));
    OK(mmsb_registry_create(&registry));
    OK(mmsb_registry_add(registry, &transform));
    OK(mmsb_registry_add(registry, &failing));
    OK(mmsb_registry_add(registry, &entering));
    options.registry = registry;
    uint64_t replay = 0;
    OK(mmsb_replay_open(directory, MMSB_END, &options, &replay));
    OK(mmsb_replay_digest(replay, replayed));
    CHECK(memcmp(digest, replayed, 32) == 0);
    OK(mmsb_registry_release(registry));
    OK(mmsb_replay_release(replay));
    CHECK(destroyed == 4);
    return 0;
}
