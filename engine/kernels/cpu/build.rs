//! Compiles the CUDA sources with the system's C++ compiler, behind headers that stand in for CUDA.

fn main() {
    for path in ["src", ".."] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=MMSB_KERNELS_CPU_FLAGS");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .file("src/fibres.cpp")
        .file("src/kernels.cpp")
        // Also in debug builds: the kernels stand for a GPU, and are slow enough as it is.
        .opt_level(2)
        // The GPU does not fuse either, and moves bytes through pointers of any type.
        .flag("-ffp-contract=off")
        .flag("-fno-strict-aliasing")
        .flag_if_supported("-Wno-unknown-pragmas");
    // For instance "-fsanitize=address,alignment -g": see engine/kernels/README.md.
    if let Ok(flags) = std::env::var("MMSB_KERNELS_CPU_FLAGS") {
        for flag in flags.split_whitespace() {
            build.flag(flag);
        }
    }
    build.compile("mmsb_kernels_cpu");
}
