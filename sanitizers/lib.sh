# What ci/asan, ci/tsan and ci/miri share. Sourced, not run.
host=$(rustc -vV | sed -n 's/^host: //p')

# Installs nightly Rust and components of it, if they are missing.
need_nightly() {
    if ! rustup toolchain list | grep -q '^nightly'; then
        echo "nightly Rust is missing: installing it" >&2
        rustup toolchain install nightly --profile minimal
    fi
    local component
    for component in "$@"; do
        if ! rustup component list --toolchain nightly --installed | grep -q "^$component"; then
            echo "$component of nightly Rust is missing: installing it" >&2
            rustup component add "$component" --toolchain nightly
        fi
    done
}

need_nextest() {
    if ! command -v cargo-nextest >/dev/null; then
        echo "cargo-nextest is missing: installing it (once, a few minutes)" >&2
        cargo install --locked cargo-nextest
    fi
}

# The lines of a file of settings, joined by $2. A line without a reason above it is refused.
settings() {
    awk -v join="$2" -v file="$1" '
        /^#/ { reason = 1; next }
        /^$/ { next }
        !reason { print file ": no reason above: " $0 > "/dev/stderr"; exit 1 }
        { printf "%s%s", sep, $0; sep = join; reason = 0 }
    ' "$1"
}

# Runs a command that must fail with this in its output.
must_find() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf '%s\n' "$output" | tail -20
        echo "control: $* was not found" >&2
        exit 1
    fi
    if ! grep -q -- "$what" <<<"$output"; then
        printf '%s\n' "$output" | tail -40
        echo "control: $* failed, but not with '$what'" >&2
        exit 1
    fi
    echo "control: '$what' was found"
}

# Builds the simulated CUDA driver with the flags of the lane ($1 names what calls of its instrumentation begin with), and puts it below
# the lane's folder. Uses `build`, the lane's arguments for cargo.
make_driver() {
    local folder=$CARGO_TARGET_DIR/simulated-driver
    cargo +nightly build --locked --quiet -p mmsb-simulated-driver "${build[@]}"
    mkdir -p "$folder"
    cp "$CARGO_TARGET_DIR/$host/debug/libmmsb_simulated_driver.so" "$folder/new"
    mv "$folder/new" "$folder/libcuda.so.1"
    ln -sfn libcuda.so.1 "$folder/libcuda.so"
    if ! grep -qa "$1" "$folder/libcuda.so.1"; then
        echo "sanitizers: red: the simulated driver is not instrumented" >&2
        exit 1
    fi
}

# Runs a command that finds this driver, and for which a GPU is required.
with_driver() {
    MMSB_GPU=require LD_LIBRARY_PATH="$PWD/$CARGO_TARGET_DIR/simulated-driver" "$@"
}

# Generated scenarios of these campaigns for a while. Workers are larger and slower than they are without a sanitizer.
storms() {
    local campaigns=$1 duration=$2 out
    cargo +nightly build --locked --quiet -p mmsb-stress "${build[@]}"
    out=$(mktemp -d "$CARGO_TARGET_DIR/storms-XXXXXX")
    "$CARGO_TARGET_DIR/$host/debug/mmsb-stress" run --for "$duration" --campaign "$campaigns" --no-monitor --timeout 10m --max-rss 8192 \
        --seed-from "$(git rev-parse HEAD 2>/dev/null || echo 0)" --out "$out/run"
    rm -rf "$out"
}
