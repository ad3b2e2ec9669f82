// The C ABI of MMSB, a memory-mapped state bus. Made by cbindgen from engine/ffi/src; do not edit.
// Ownership, errors and threads: docs/FFI.md.

#ifndef MMSB_H
#define MMSB_H

#include <stddef.h>
#include <stdint.h>

// The version of this header. Additions raise the low half, everything else the high half.
#define MMSB_ABI_VERSION 65537

// A page in host memory.
#define MMSB_HOST 0

// A page in memory of a device.
#define MMSB_DEVICE_MEMORY 1

// A page in memory that host and device both address.
#define MMSB_UNIFIED 2

// The whole history stays.
#define MMSB_RETAIN_EVERYTHING 0

// What the two newest checkpoints need stays.
#define MMSB_RETAIN_CHECKPOINTS 1

// As long as `retention_bytes` of log say, checkpoints and log stay.
#define MMSB_RETAIN_BYTES 2

// Derived pages are computed by the commit that changes a parent.
#define MMSB_EAGER 0

// Derived pages are computed when they are read.
#define MMSB_DEFERRED 1

// Host memory stands in for a device's.
#define MMSB_DEVICE_HOST 0

// A simulated device with memory of its own.
#define MMSB_DEVICE_SIMULATED 1

// A GPU; see `mmsb_feature`.
#define MMSB_DEVICE_CUDA 2

// For `until`: the end of the log.
#define MMSB_END UINT64_MAX

// It worked.
#define MMSB_OK 0

// A pointer that must not be null is, is not aligned, or a value is not one that is allowed.
#define MMSB_INVALID_ARGUMENT 1

// A handle that was released, or is none; `mmsb_last_error_kind` tells `handle.stale` from `handle.unknown`.
#define MMSB_INVALID_HANDLE 2

// A handle of another kind than the function takes.
#define MMSB_WRONG_KIND 3

// Another call uses the handle in a way that excludes this one, or something that was opened from it is still open.
#define MMSB_BUSY 4

// The call is not possible in the state that the object is in, such as writing to a committed transaction.
#define MMSB_STATE 5

// The caller's buffer is too short; the length that is needed was stored, and nothing else.
#define MMSB_BUFFER_TOO_SMALL 6

// A structure asks for something that this version of the library does not know.
#define MMSB_UNSUPPORTED 7

// Nothing there: no event is waiting, the page has no such metadata.
#define MMSB_NOTHING 8

// A page, range or length is not one that the bus has or can have.
#define MMSB_PAGE 9

// The graph, or a transform, refuses.
#define MMSB_GRAPH 10

// Views are held that the call would have to wait for. Release them and try again.
#define MMSB_VIEW_HELD 11

// No memory, no room in the arena, or more than a transaction can hold.
#define MMSB_OUT_OF_SPACE 12

// The operating system refused, or the bus is read-only since its files failed.
#define MMSB_IO 13

// The commit is visible, but did not become as durable as asked; whether it survives is known after the next open.
#define MMSB_IN_DOUBT 14

// The files are not what they should be.
#define MMSB_DAMAGED 15

// The directory is open elsewhere.
#define MMSB_IN_USE 16

// A device failed.
#define MMSB_DEVICE 17

// The library was called from a transform, which may only compute.
#define MMSB_REENTERED 18

// A bug of the library was caught at the border. The objects that the call used may be of no more use; nothing is undefined.
#define MMSB_PANIC 19

// An error that has no status of its own in this version; the kind and the message tell.
#define MMSB_OTHER 20

// On the disk when the commit returns. The default.
#define MMSB_SYNC 0

// In the order and visible; lost if the process dies.
#define MMSB_MEMORY 1

// Handed to the operating system: survives the process, not a power cut.
#define MMSB_BUFFERED 2

// Any byte of a parent may alter any byte of the page.
#define MMSB_MAP_WHOLE 0

// A byte of a parent alters the byte of the page at the same offset, up to rounding to `granule_bytes`.
#define MMSB_MAP_SAME_OFFSET 1

// Options of `mmsb_bus_open` and `mmsb_replay_open`. Zero is the default of every field but `size`.
typedef struct {
    // `sizeof(mmsb_options)`.
    uint64_t size;
    // Address space for pages in bytes; memory is used only where pages are. Default 256 GiB.
    uint64_t arena_bytes;
    // Length of a segment of the log in bytes, a multiple of 4096 from 8192. Default 64 MiB.
    uint64_t segment_bytes;
    // With `MMSB_RETAIN_BYTES`: how much of the log.
    uint64_t retention_bytes;
    // What checkpoints keep of the log: `MMSB_RETAIN_EVERYTHING`, `_CHECKPOINTS` or `_BYTES`.
    uint32_t retention;
    // When derived pages are computed: `MMSB_EAGER` or `MMSB_DEFERRED`.
    uint32_t propagation;
    // Threads that a large wave may use while it runs. Default 1.
    uint32_t threads;
    // Threads that apply records during recovery. Default 1.
    uint32_t appliers;
    // 1: new segments are not filled with zeros ahead of use.
    uint32_t no_prefill;
    // 1: long transactions are compressed with zstd; see `mmsb_feature`.
    uint32_t compression;
    // Handle of the transforms that derived pages may use, or 0 for the built-in ones. It can be released after the call.
    uint64_t registry;
    // Where pages on a device live: `MMSB_DEVICE_HOST`, `_SIMULATED` or `_CUDA`.
    uint32_t device;
    // Which GPU, from 0.
    uint32_t device_index;
    // Memory of the device to use for pages, in bytes. Default all of a GPU's, 128 MiB of a simulated one.
    uint64_t device_bytes;
    // Who a new log is; all zeros: drawn.
    uint8_t identity[16];
} mmsb_options;

// What a checkpoint came to.
typedef struct {
    // `sizeof(mmsb_checkpoint_report)`, set by the caller.
    uint64_t size;
    // Recovery applies the log after this LSN.
    uint64_t replay_after;
    // Its number.
    uint64_t sequence;
    // 1 if it has images of all pages, 0 if only of those that changed.
    uint64_t is_full;
    // Page images written.
    uint64_t images;
    // Bytes of the file that they are in.
    uint64_t image_bytes;
    // Segments of the log that it made unnecessary.
    uint64_t freed_segments;
} mmsb_checkpoint_report;

// Figures of a bus.
typedef struct {
    // `sizeof(mmsb_statistics)`, set by the caller.
    uint64_t size;
    // LSN of the last commit.
    uint64_t last_lsn;
    // Everything up to this LSN is durable.
    uint64_t durable_lsn;
    // Pages in host memory.
    uint64_t live_pages;
    // Sum of their lengths.
    uint64_t live_bytes;
    // Those among them that are computed from others.
    uint64_t derived_pages;
    // Bytes of host memory that no other page can get.
    uint64_t reserved_bytes;
    // Length of the arena.
    uint64_t capacity_bytes;
    // Bytes appended to the log since it was opened.
    uint64_t log_bytes;
    // Syncs of the log since it was opened.
    uint64_t syncs;
    // Segments of the log begun since it was opened.
    uint64_t rotations;
    // Handles that were opened from the bus and not released: transactions and views.
    uint64_t open_handles;
    // Writes to the log since it was opened.
    uint64_t log_writes;
    // Segments of the log that were used again since it was opened.
    uint64_t recycled;
    // Bytes of host memory that pages take, what they share with no other page included.
    uint64_t footprint_bytes;
    // The most that it ever was.
    uint64_t peak_footprint_bytes;
    // What pages take beyond their lengths.
    uint64_t waste_bytes;
    // Length of the longest page that there is room for.
    uint64_t largest_free_range_bytes;
    // Pages that were ever allocated in host memory.
    uint64_t allocations_total;
    // Those that were freed.
    uint64_t releases_total;
} mmsb_statistics;

// What opening a bus found and did.
typedef struct {
    // `sizeof(mmsb_open_report)`, set by the caller.
    uint64_t size;
    // 1 if there was nothing: the bus is new.
    uint64_t created;
    // The state was as of this LSN.
    uint64_t last_lsn;
    // 1 if a checkpoint was used.
    uint64_t has_checkpoint;
    // The LSN after which the log was applied, if one was.
    uint64_t checkpoint_lsn;
    // Transactions applied from the log.
    uint64_t applied;
    // 1 if what a crash had left behind the end of the log was cut off.
    uint64_t torn;
    // LSN of the first transaction that was lost by that.
    uint64_t torn_lsn;
    // Segments that were dropped by that.
    uint64_t dropped_segments;
    // How many things were found wrong and could be done without; `mmsb_doctor` says which.
    uint64_t warnings;
} mmsb_open_report;

// What is known of a page besides its bytes.
typedef struct {
    // `sizeof(mmsb_page_info)`, set by the caller.
    uint64_t size;
    // Its length in bytes.
    uint64_t len;
    // Its place in the memory of its location, in bytes.
    uint64_t offset;
    // How many transactions wrote to it; of a derived page, how many waves of this process changed it.
    uint64_t epoch;
    // `MMSB_HOST`, `MMSB_DEVICE_MEMORY` or `MMSB_UNIFIED`.
    uint32_t location;
    // 1 if its bytes are computed from other pages.
    uint32_t is_derived;
    // From how many; see `mmsb_page_parents`.
    uint64_t parents;
} mmsb_page_info;

// One write: `len` bytes to `page` from `offset` on. It never gets other fields; another structure would have another function.
typedef struct {
    // The page.
    uint64_t page;
    // Where in it.
    uint64_t offset;
    // What.
    const uint8_t *bytes;
    // How much.
    uint64_t len;
} mmsb_write;

// One commit.
typedef struct {
    // `sizeof(mmsb_event)`, set by the caller.
    uint64_t size;
    // Its place in the order.
    uint64_t lsn;
    // Events before this one that were thrown away, because the queue was full.
    uint64_t lost;
    // How many pages it wrote, allocated, freed, connected or annotated.
    uint64_t pages;
} mmsb_event;

// Bytes of a page, or of anything else: `len` of them from `data` on. It never gets other fields.
typedef struct {
    // The first one.
    const uint8_t *data;
    // How many.
    uint64_t len;
} mmsb_bytes;

// What a transform is to compute: bytes `start..start + out_len` of the page, all of them and nothing else, to `out`.
// Everything in here is valid until the function returns.
typedef struct {
    // `sizeof(mmsb_compute)` of the library, which may be more than the caller's.
    uint64_t size;
    // The parents in order, whole.
    const mmsb_bytes *inputs;
    // How many there are.
    uint64_t input_count;
    // The parameters that the page was connected with.
    mmsb_bytes params;
    // Length of the page.
    uint64_t output_len;
    // The first byte to compute.
    uint64_t start;
    // Where to.
    uint8_t *out;
    // How many.
    uint64_t out_len;
    // Room for a message, should the transform fail; UTF-8, ended by a zero byte.
    char *error;
    // How much.
    uint64_t error_capacity;
} mmsb_compute;

// A transform. It must be pure and splittable: the bytes are a function of inputs and parameters alone, and computing a range gives
// what computing the whole and cutting gives. What computes something else has another version.
typedef struct {
    // `sizeof(mmsb_transform)`.
    uint64_t size;
    // The name that logs know it by. Copied.
    const char *name;
    // From 1.
    uint32_t version;
    // `MMSB_MAP_WHOLE` or `MMSB_MAP_SAME_OFFSET`.
    uint32_t mapping;
    // Ranges to compute are rounded outwards to multiples of this power of two; 0 stands for 1.
    uint32_t granule_bytes;
    // How many parents it takes; 0 for any number but none.
    uint32_t parents;
    // Given to the functions.
    void *user_data;
    // Computes; any result but 0 makes the page and all that depends on it stale. It is called inside of commits and reads, from
    // any thread, also several at a time. It must not call the library, throw or jump out.
    int32_t (*compute)(void *user_data, const mmsb_compute *work);
    // Told when the transform is not used any more; may be null.
    void (*destroy)(void *user_data);
} mmsb_transform;

// What a page of another process was when it was looked at.
typedef struct {
    // `sizeof(mmsb_moment)`, set by the caller.
    uint64_t size;
    // Even, and another number after each change.
    uint64_t sequence;
    // LSN of the last transaction that wrote to the page; 0 for none.
    uint64_t lsn;
    // How many transactions wrote to it; of a derived page, how many waves changed it.
    uint64_t epoch;
} mmsb_moment;

// A page where it lies on a device.
typedef struct {
    // `sizeof(mmsb_device_page)`, set by the caller.
    uint64_t size;
    // Address of the first byte for code on the device; for a CUDA device a `CUdeviceptr` of its primary context.
    uint64_t address;
    // Length of the page in bytes.
    uint64_t len;
    // `MMSB_DEVICE_HOST`, `MMSB_DEVICE_SIMULATED` or `MMSB_DEVICE_CUDA`. Only with the last can anybody use the address.
    uint64_t device;
} mmsb_device_page;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The ABI version of the library that was loaded: compatible with a program whose `MMSB_ABI_VERSION` has the same high half, and
// a low half that is not greater.
uint32_t mmsb_abi_version(void);

// The version of the library, such as `0.1.0`. Static.
const char *mmsb_version(void);

// A status in words. Static; `unknown` for what is none.
const char *mmsb_status_name(int32_t status);

// Whether the library has a feature: `*present` is 1 or 0. `zstd`, `cuda` and `transforms` are known; names that are not
// known are absent.
//
// # Safety
// `name` is a string; `present` may be written to.
int32_t mmsb_feature(const char *name,
                     int32_t *present);

// Opens the bus in `directory`, which is created if need be, and recovers its state. `options` may be null.
//
// # Safety
// `directory` is a string, `options` null or a structure that says its size; `bus` may be written to.
int32_t mmsb_bus_open(const char *directory, const mmsb_options *options, uint64_t *bus);

// Closes a bus: makes everything durable and releases the directory and the handle, also if that fails.
// `MMSB_BUSY`, and the bus stays open, as long as a transaction or view of it is open. It never waits for one.
int32_t mmsb_bus_close(uint64_t bus);

// As `mmsb_bus_close`, but writes nothing that is buffered, as if the process had died here.
int32_t mmsb_bus_abandon(uint64_t bus);

// Makes every commit so far durable. `lsn` (may be null) is up to where.
//
// # Safety
// `lsn` is null or may be written to.
int32_t mmsb_bus_sync(uint64_t bus, uint64_t *lsn);

// Prepares the next segment of the log if none is waiting; `*prepared` (may be null) is 1 if it had to. The library starts no
// threads, so this is for a thread of yours to call now and then.
//
// # Safety
// `prepared` is null or may be written to.
int32_t mmsb_bus_maintain(uint64_t bus,
                          int32_t *prepared);

// Computes the derived pages whose parents changed. Nothing to do unless waves are deferred.
int32_t mmsb_bus_propagate(uint64_t bus);

// Writes a checkpoint; commits go on meanwhile, and views may be held. `report` may be null.
//
// # Safety
// `report` is null or a structure that says its size.
int32_t mmsb_bus_checkpoint(uint64_t bus, mmsb_checkpoint_report *report);

// Fills the device of the bus anew from the log, after it failed.
int32_t mmsb_bus_restore_device(uint64_t bus);

// The digest of all pages, as of one moment: 32 bytes to `digest`.
//
// # Safety
// 32 bytes may be written to `digest`.
int32_t mmsb_bus_digest(uint64_t bus, uint8_t *digest);

// The ids of all pages in order. `needed` (may be null) is how many there are, also if they do not fit.
//
// # Safety
// `pages` has room for `capacity` ids; `needed` is null or may be written to.
int32_t mmsb_bus_pages(uint64_t bus, uint64_t *pages, size_t capacity, size_t *needed);

// Figures of the bus.
//
// # Safety
// `statistics` is a structure that says its size.
int32_t mmsb_bus_statistics(uint64_t bus, mmsb_statistics *statistics);

// What opening the bus found and did.
//
// # Safety
// `report` is a structure that says its size.
int32_t mmsb_bus_opened(uint64_t bus, mmsb_open_report *report);

// What is known of a page besides its bytes.
//
// # Safety
// `info` is a structure that says its size.
int32_t mmsb_page_describe(uint64_t bus, uint64_t page, mmsb_page_info *info);

// The pages that a page is computed from, in order. `needed` (may be null) is how many there are, also if they do not fit.
//
// # Safety
// `parents` has room for `capacity` ids; `needed` is null or may be written to.
int32_t mmsb_page_parents(uint64_t bus,
                          uint64_t page,
                          uint64_t *parents,
                          size_t capacity,
                          size_t *needed);

// The value of a page's metadata `key`; `MMSB_NOTHING` if it has none. `needed` (may be null) is its length, also if it does not fit.
//
// # Safety
// `key` is a string; `value` has room for `capacity` bytes; `needed` is null or may be written to.
int32_t mmsb_page_annotation(uint64_t bus,
                             uint64_t page,
                             const char *key,
                             uint8_t *value,
                             size_t capacity,
                             size_t *needed);

// Commits `count` writes to pages that exist as one transaction. Otherwise as `mmsb_transaction_commit`.
//
// # Safety
// `count` writes can be read from `writes`, and of each as many bytes as it says; `lsn` is null or may be written to.
int32_t mmsb_commit_writes(uint64_t bus,
                           const mmsb_write *writes,
                           size_t count,
                           uint32_t durability,
                           uint64_t wait_ns,
                           uint64_t *lsn);

// Looks at the files of the bus in `directory` and reports, as JSON with `place`, `clean`, `verdict`, `last_lsn`, `warnings`, `missing`
// and `files`, what opening would say. Nothing is changed and no lock is taken, so it works beside a bus that is open.
// `MMSB_DAMAGED`, with the report written, if opening would refuse. `needed` (may be null) is the length without the zero byte
// that ends it; `capacity` has to be more than that.
//
// # Safety
// `directory` is a string; `report` has room for `capacity` bytes; `needed` is null or may be written to.
int32_t mmsb_doctor(const char *directory,
                    char *report,
                    size_t capacity,
                    size_t *needed);

// Subscribes to the commits of a bus. At most `capacity` events wait to be taken; then the oldest is lost, and counted. Commits
// never wait. Close it with `mmsb_events_close`; it may outlive the bus.
//
// # Safety
// `events` may be written to.
int32_t mmsb_events_open(uint64_t bus,
                         size_t capacity,
                         uint64_t *events);

// Takes the oldest event that waits, or returns `MMSB_NOTHING`. `pages` gets the ids of its pages, in order; `needed` (may be null) is
// how many there are. If they do not fit, the event stays.
//
// # Safety
// `event` is a structure that says its size; `pages` has room for `capacity` ids; `needed` is null or may be written to.
int32_t mmsb_events_next(uint64_t events,
                         mmsb_event *event,
                         uint64_t *pages,
                         size_t capacity,
                         size_t *needed);

// The descriptor that is readable as long as an event waits, for `poll` and its like. It is the library's: do not read, write or close
// it; it goes with the handle.
//
// # Safety
// `descriptor` may be written to.
int32_t mmsb_events_fd(uint64_t events,
                       int32_t *descriptor);

// Ends a subscription.
int32_t mmsb_events_close(uint64_t events);

// What went wrong in the last call of this thread that failed, in words: UTF-8, never null, empty if none did. It is valid until
// the next call of this thread that fails. Calls that work leave it alone.
const char *mmsb_last_error_message(void);

// As `mmsb_last_error_message`, but the stable name of the kind of error, such as `page.stale`: for programs to compare.
const char *mmsb_last_error_kind(void);

// Makes a registry that knows the built-in transforms. Release it with `mmsb_registry_release`.
//
// # Safety
// `registry` may be written to.
int32_t mmsb_registry_create(uint64_t *registry);

// Adds a transform. Buses that were opened with the registry before do not learn of it.
//
// From here on the library owns `transform->user_data`: `destroy` is called once, when neither the registry nor any bus or page of
// the past knows the transform any more, also if this call fails for another reason than an invalid `transform`.
//
// # Safety
// `transform` points to a structure that says its size, with functions that can be called from any thread for as long as
// `destroy` was not called.
int32_t mmsb_registry_add(uint64_t registry,
                          const mmsb_transform *transform);

// Releases a registry.
int32_t mmsb_registry_release(uint64_t registry);

// Rebuilds the state of the bus in `directory` as of LSN `until` (`MMSB_END`: all), from its log. The directory is only read.
// `options` may be null. Release it with `mmsb_replay_release`.
//
// # Safety
// `directory` is a string, `options` null or a structure that says its size; `replay` may be written to.
int32_t mmsb_replay_open(const char *directory,
                         uint64_t until,
                         const mmsb_options *options,
                         uint64_t *replay_handle);

// The LSN that a state of the past is as of.
//
// # Safety
// `lsn` may be written to.
int32_t mmsb_replay_lsn(uint64_t replay_handle, uint64_t *lsn);

// As `mmsb_bus_digest`, of a state of the past.
//
// # Safety
// 32 bytes may be written to `digest`.
int32_t mmsb_replay_digest(uint64_t replay_handle, uint8_t *digest);

// As `mmsb_bus_pages`, of a state of the past.
//
// # Safety
// `pages` has room for `capacity` ids; `needed` is null or may be written to.
int32_t mmsb_replay_pages(uint64_t replay_handle, uint64_t *pages, size_t capacity, size_t *needed);

// As `mmsb_view_open`, of a state of the past. The view keeps what it shows alive, also when the state is released.
//
// # Safety
// `count` ids can be read from `pages`; `view` may be written to.
int32_t mmsb_replay_view(uint64_t replay_handle, const uint64_t *pages, size_t count, uint64_t *view);

// Releases a state of the past.
int32_t mmsb_replay_release(uint64_t replay_handle);

// A descriptor of the memory of a page in host memory, from 4033 bytes on, for another process to map with `mmsb_shared_open`. Pass it
// on by `fork` or through a Unix socket. It is the caller's to close; every call gives another one of the same memory.
//
// The other process sees the page's own memory and no other, and cannot change it. It ends, and is told, when the page is
// freed, transferred or withdrawn, or the bus closed. Views of the page must not be held (`MMSB_VIEW_HELD`).
//
// # Safety
// `descriptor` may be written to.
int32_t mmsb_page_export(uint64_t bus,
                         uint64_t page,
                         int32_t *descriptor);

// Ends the export of a page, if there is one. Who has mapped it keeps what was there last, and is told `shared.gone`.
int32_t mmsb_page_withdraw(uint64_t bus, uint64_t page);

// Maps a page that another process exported. The descriptor stays the caller's, and is needed no more. `page` (may be null) is
// its id there; `bytes` (may be null) where it is mapped until `mmsb_shared_close`: these bytes change at any time, see
// `mmsb_shared_begin`.
//
// # Safety
// `shared` may be written to, `page` and `bytes` are null or may be.
int32_t mmsb_shared_open(int32_t descriptor,
                         uint64_t *shared,
                         uint64_t *page,
                         mmsb_bytes *bytes);

// Copies `len` bytes of the page, from `offset` on, to `bytes`, as of one moment: `moment` (may be null) says which.
//
// It tries again for `wait_ns` while a commit changes the page: then `MMSB_BUSY` (`shared.changing`), also if the other process died
// in the middle of one. A derived page that awaits a wave is `MMSB_BUSY` (`shared.behind`) until the other process reads it or
// propagates, and `MMSB_GRAPH` if its transform failed. `MMSB_PAGE` (`shared.gone`) if the page is gone, `MMSB_STATE`
// (`shared.closed`) if the bus was closed. A process that was killed closes nothing: what it committed last stays.
//
// # Safety
// `len` bytes may be written to `bytes`; `moment` is null or a structure that says its size.
int32_t mmsb_shared_read(uint64_t shared,
                         uint64_t offset,
                         uint8_t *bytes,
                         size_t len,
                         uint64_t wait_ns,
                         mmsb_moment *moment);

// Begins to read in place: what is read of the page between this and an `mmsb_shared_check` that agrees is of that moment. What
// it does not agree to must not have been relied on. Errors and `wait_ns` as of `mmsb_shared_read`.
//
// # Safety
// `moment` is a structure that says its size.
int32_t mmsb_shared_begin(uint64_t shared,
                          uint64_t wait_ns,
                          mmsb_moment *moment);

// Whether the page is still as it was when `mmsb_shared_begin` gave `sequence`: `MMSB_BUSY` (`shared.changing`) if not.
int32_t mmsb_shared_check(uint64_t shared, uint64_t sequence);

// Unmaps a page of another process. Its pointers are invalid from here on.
int32_t mmsb_shared_close(uint64_t shared);

// Begins a transaction. Release it with `mmsb_transaction_release`, whatever becomes of it. One thread at a time may use it.
//
// # Safety
// `transaction` may be written to.
int32_t mmsb_transaction_begin(uint64_t bus,
                               uint64_t *transaction);

// Releases a transaction. One that was not committed is discarded.
int32_t mmsb_transaction_release(uint64_t transaction);

// Allocates a page of `len` zeros at `location`. `*page` names it in this transaction alone, until
// `mmsb_transaction_page` tells the id that the commit gave it.
//
// # Safety
// `page` may be written to.
int32_t mmsb_transaction_allocate(uint64_t transaction, uint64_t len, uint32_t location, uint64_t *page);

// Writes `len` bytes to `page` from `offset` on. They are copied; later writes win over earlier ones.
//
// # Safety
// `len` bytes can be read from `bytes`.
int32_t mmsb_transaction_write(uint64_t transaction, uint64_t page, uint64_t offset, const uint8_t *bytes, size_t len);

// Frees a page.
int32_t mmsb_transaction_free(uint64_t transaction, uint64_t page);

// Gives a page a new id, which `mmsb_transaction_transferred` tells after the commit; every copy of the old one is stale then.
int32_t mmsb_transaction_transfer(uint64_t transaction,
                                  uint64_t page);

// Makes `child` a derived page: its bytes are the transform `name` at `version` with `params`, of `parents`.
//
// # Safety
// `name` is a string, `params_len` bytes can be read from `params`, and `parent_count` ids from `parents`.
int32_t mmsb_transaction_connect(uint64_t transaction,
                                 uint64_t child,
                                 const char *name,
                                 uint32_t version,
                                 const uint8_t *params,
                                 size_t params_len,
                                 const uint64_t *parents,
                                 size_t parent_count);

// Makes a derived page an ordinary one again, with the bytes that it has.
int32_t mmsb_transaction_disconnect(uint64_t transaction, uint64_t child);

// Sets the metadata `key` of a page; removes it if `value` is null.
//
// # Safety
// `key` is a string; `value` is null, or `len` bytes can be read from it.
int32_t mmsb_transaction_annotate(uint64_t transaction,
                                  uint64_t page,
                                  const char *key,
                                  const uint8_t *value,
                                  size_t len);

// Commits: the transaction gets its place in the order, becomes visible, and is as durable as `durability` says when this returns.
// `lsn` (may be null) is its place, also with `MMSB_IN_DOUBT`.
//
// Views that are held on pages that it changes are never waited for: `MMSB_VIEW_HELD` says that nothing has changed and that the
// transaction can be committed again. With `wait_ns` it tries again for so long by itself. After any other error the
// transaction can only be released.
//
// # Safety
// `lsn` is null or may be written to.
int32_t mmsb_transaction_commit(uint64_t transaction,
                                uint32_t durability,
                                uint64_t wait_ns,
                                uint64_t *lsn);

// The id that the commit gave to a page that the transaction allocated.
//
// # Safety
// `page` may be written to.
int32_t mmsb_transaction_page(uint64_t transaction, uint64_t new_page, uint64_t *page);

// The new id of a page that the transaction transferred.
//
// # Safety
// `page` may be written to.
int32_t mmsb_transaction_transferred(uint64_t transaction, uint64_t old, uint64_t *page);

// Opens a view of one page. `*bytes` are the page's own, not a copy (but for pages on a device), and stay valid and unchanged until
// the view is released, by `mmsb_view_release` on any thread. Until then nobody waits for it: commits to the page, and to the
// few others that share its lock, are refused with `MMSB_VIEW_HELD`, and closing the bus with `MMSB_BUSY`.
//
// # Safety
// `view` and `bytes` may be written to.
int32_t mmsb_view_one(uint64_t bus,
                      uint64_t page,
                      uint64_t *view,
                      mmsb_bytes *bytes);

// Opens a view of several pages as of one moment: no commit is in it in part. Otherwise as `mmsb_view_one`;
// `mmsb_view_page` tells where the pages are.
//
// # Safety
// `count` ids can be read from `pages`; `view` may be written to.
int32_t mmsb_view_open(uint64_t bus, const uint64_t *pages, size_t count, uint64_t *view);

// The page at `position` of a view. `page` (may be null) is its id, `bytes` (may be null) where it is.
//
// # Safety
// `page` and `bytes` are null or may be written to.
int32_t mmsb_view_page(uint64_t view, size_t position, uint64_t *page, mmsb_bytes *bytes);

// The highest LSN among the transactions that wrote to the pages of a view; 0 for none.
//
// # Safety
// `lsn` may be written to.
int32_t mmsb_view_lsn(uint64_t view, uint64_t *lsn);

// Releases a view, on any thread. Its pointers are invalid from here on.
int32_t mmsb_view_release(uint64_t view);

// Opens a view of a page where it lies on the device: nothing is copied. Otherwise as `mmsb_view_one`. Code on the
// device must have finished reading before the view is released, and must not write.
//
// # Safety
// `view` may be written to; `device_page` is a structure that says its size.
int32_t mmsb_view_device(uint64_t bus, uint64_t page, uint64_t *view, mmsb_device_page *device_page);

// Copies `len` bytes of a page, from `offset` on, to `bytes`. It waits for commits to the page that are under way, and for nothing
// else.
//
// # Safety
// `len` bytes may be written to `bytes`.
int32_t mmsb_read_into(uint64_t bus,
                       uint64_t page,
                       uint64_t offset,
                       uint8_t *bytes,
                       size_t len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MMSB_H */
