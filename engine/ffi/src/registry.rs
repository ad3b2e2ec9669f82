//! Transforms that a caller brings, gathered before a bus is opened.

use mmsb_engine::graph::TransformRegistry;
use parking_lot::Mutex;

use crate::border::{Out, call};
use crate::failure::Failure;
use crate::lookup::REGISTRIES;
use crate::status;
use crate::transform::{Foreign, mmsb_transform};

/// Makes a registry that knows the built-in transforms. Release it with `mmsb_registry_release`.
///
/// # Safety
/// `registry` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_registry_create(registry: *mut u64) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let out = unsafe { Out::new(registry, "registry")? };
        out.set(REGISTRIES.insert(Mutex::new(TransformRegistry::with_builtins()))?);
        Ok(())
    })
}

/// Adds a transform. Buses that were opened with the registry before do not learn of it.
///
/// From here on the library owns `transform->user_data`: `destroy` is called once, when neither the registry nor any bus or page of
/// the past knows the transform any more, also if this call fails for another reason than an invalid `transform`.
///
/// # Safety
/// `transform` points to a structure that says its size, with functions that can be called from any thread for as long as
/// `destroy` was not called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmsb_registry_add(registry: u64, transform: *const mmsb_transform) -> i32 {
    call(|| {
        // SAFETY: the caller's contract.
        let foreign = unsafe { Foreign::read(transform)? };
        let registry = REGISTRIES.share(registry)?;
        let (name, version) = (foreign.name().to_owned(), foreign.version());
        let added = registry
            .lock()
            .register(&name, version, move |params| foreign.with_params(params));
        added.map_err(|error| {
            Failure::new(status::MMSB_GRAPH, "transform.duplicate", error.to_string())
        })
    })
}

/// Releases a registry.
#[unsafe(no_mangle)]
pub extern "C" fn mmsb_registry_release(registry: u64) -> i32 {
    call(|| REGISTRIES.remove(registry).map(drop))
}
