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
