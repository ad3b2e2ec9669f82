//! Transforms whose code is the caller's.

use std::ffi::{c_char, c_void};
use std::ops::Range;
use std::sync::Arc;

use mmsb_engine::graph::{Mapping, Transform, TransformError, Window};

use crate::border::{Sized64, in_transform, read_sized, text};
use crate::failure::{Failure, Outcome};
use crate::view::mmsb_bytes;

/// Any byte of a parent may alter any byte of the page.
pub const MMSB_MAP_WHOLE: u32 = 0;
/// A byte of a parent alters the byte of the page at the same offset, up to rounding to `granule_bytes`.
pub const MMSB_MAP_SAME_OFFSET: u32 = 1;

/// What a transform is to compute: bytes `start..start + out_len` of the page, all of them and nothing else, to `out`.
/// Everything in here is valid until the function returns.
#[derive(Debug)]
#[repr(C)]
pub struct mmsb_compute {
    /// `sizeof(mmsb_compute)` of the library, which may be more than the caller's.
    pub size: u64,
    /// The parents in order, whole.
    pub inputs: *const mmsb_bytes,
    /// How many there are.
    pub input_count: u64,
    /// The parameters that the page was connected with.
    pub params: mmsb_bytes,
    /// Length of the page.
    pub output_len: u64,
    /// The first byte to compute.
    pub start: u64,
    /// Where to.
    pub out: *mut u8,
    /// How many.
    pub out_len: u64,
    /// Room for a message, should the transform fail; UTF-8, ended by a zero byte.
    pub error: *mut c_char,
    /// How much.
    pub error_capacity: u64,
}

/// A transform. It must be pure and splittable: the bytes are a function of inputs and parameters alone, and computing a range gives
/// what computing the whole and cutting gives. What computes something else has another version.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct mmsb_transform {
    /// `sizeof(mmsb_transform)`.
    pub size: u64,
    /// The name that logs know it by. Copied.
    pub name: *const c_char,
    /// From 1.
    pub version: u32,
    /// `MMSB_MAP_WHOLE` or `MMSB_MAP_SAME_OFFSET`.
    pub mapping: u32,
    /// Ranges to compute are rounded outwards to multiples of this power of two; 0 stands for 1.
    pub granule_bytes: u32,
    /// How many parents it takes; 0 for any number but none.
    pub parents: u32,
    /// Given to the functions.
    pub user_data: *mut c_void,
    /// Computes; any result but 0 makes the page and all that depends on it stale. It is called inside of commits and reads, from
    /// any thread, also several at a time. It must not call the library, throw or jump out.
    pub compute:
        Option<unsafe extern "C" fn(user_data: *mut c_void, work: *const mmsb_compute) -> i32>,
    /// Told when the transform is not used any more; may be null.
    pub destroy: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
}

impl Default for mmsb_transform {
    fn default() -> Self {
        Self {
            size: 0,
            name: std::ptr::null(),
            version: 0,
            mapping: 0,
            granule_bytes: 0,
            parents: 0,
            user_data: std::ptr::null_mut(),
            compute: None,
            destroy: None,
        }
    }
}

// SAFETY: `repr(C)`, no padding (checked in tests/abi.rs); any bytes are integers, pointers or optional functions, and the
// functions are only called as the caller vouches for them.
unsafe impl Sized64 for mmsb_transform {
    const FIRST_SIZE: usize = 56;
}

/// The functions and what they are given; `destroy` is called when it is dropped.
struct Code {
    name: String,
    version: u32,
    mapping: u32,
    granule_bytes: u32,
    parents: u32,
    user_data: *mut c_void,
    compute: unsafe extern "C" fn(*mut c_void, *const mmsb_compute) -> i32,
    destroy: Option<unsafe extern "C" fn(*mut c_void)>,
}

// SAFETY: the caller of `mmsb_registry_add` vouches that the functions may be called from any thread, with the same user data.
unsafe impl Send for Code {}
// SAFETY: as above; also at the same time.
unsafe impl Sync for Code {}

impl Drop for Code {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the caller handed the user data over together with this function, and nobody uses it any more.
            in_transform(|| unsafe { destroy(self.user_data) });
        }
    }
}

/// A transform of a caller, not yet with parameters.
pub(crate) struct Foreign(Arc<Code>);

impl Foreign {
    /// # Safety
    /// As `mmsb_registry_add`.
    pub(crate) unsafe fn read(transform: *const mmsb_transform) -> Outcome<Self> {
        // SAFETY: the caller's contract.
        let given = unsafe { read_sized(transform, "transform")? };
        // SAFETY: the caller's contract.
        let name = unsafe { text(given.name, "transform.name")? };
        if name.is_empty() || given.version == 0 {
            return Err(Failure::argument(
                "a transform has a name, and a version from 1",
            ));
        }
        let compute = given
            .compute
            .ok_or_else(|| Failure::argument("transform.compute is null"))?;
        if given.mapping > MMSB_MAP_SAME_OFFSET {
            return Err(Failure::argument("transform.mapping is none of its values"));
        }
        let granule_bytes = given.granule_bytes.max(1);
        if !granule_bytes.is_power_of_two() {
            return Err(Failure::argument(
                "transform.granule_bytes is no power of two",
            ));
        }
        Ok(Self(Arc::new(Code {
            name: name.to_owned(),
            version: given.version,
            mapping: given.mapping,
            granule_bytes,
            parents: given.parents,
            user_data: given.user_data,
            compute,
            destroy: given.destroy,
        })))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn version(&self) -> u32 {
        self.0.version
    }

    pub(crate) fn with_params(&self, params: &[u8]) -> Result<Arc<dyn Transform>, TransformError> {
        Ok(Arc::new(Instance {
            code: Arc::clone(&self.0),
            params: params.to_vec(),
        }))
    }
}

struct Instance {
    code: Arc<Code>,
    params: Vec<u8>,
}

/// Room for the message of a transform that fails.
const ERROR_BYTES: usize = 256;

fn bytes_of(bytes: &[u8]) -> mmsb_bytes {
    mmsb_bytes {
        data: bytes.as_ptr(),
        len: bytes.len() as u64,
    }
}

impl Transform for Instance {
    fn name(&self) -> &str {
        &self.code.name
    }

    fn version(&self) -> u32 {
        self.code.version
    }

    fn params(&self) -> Vec<u8> {
        self.params.clone()
    }

    fn check(&self, output_len: u64, parent_lens: &[u64]) -> Result<(), TransformError> {
        let takes = self.code.parents as usize;
        if parent_lens.is_empty() || takes != 0 && takes != parent_lens.len() {
            let got = parent_lens.len();
            let name = &self.code.name;
            return Err(TransformError::failed(match takes {
                0 => format!("{name} takes parents, got none"),
                takes => format!("{name} takes {takes} parents, got {got}"),
            }));
        }
        let is_same = parent_lens.iter().all(|len| *len == output_len);
        if self.code.mapping == MMSB_MAP_SAME_OFFSET && !is_same {
            return Err(TransformError::failed(format!(
                "{} needs parents as long as the page, {output_len} bytes",
                self.code.name
            )));
        }
        Ok(())
    }

    fn mapping(&self, _parent: usize, _parent_lens: &[u64], output_len: u64) -> Mapping {
        match self.code.mapping {
            MMSB_MAP_SAME_OFFSET => Mapping::Window(Window {
                parent_start: 0,
                output_start: 0,
                len_bytes: output_len,
            }),
            _ => Mapping::Whole,
        }
    }

    fn granule_bytes(&self) -> u32 {
        self.code.granule_bytes
    }

    fn compute(
        &self,
        inputs: &[&[u8]],
        output_len: u64,
        range: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), TransformError> {
        let inputs: Vec<mmsb_bytes> = inputs.iter().map(|input| bytes_of(input)).collect();
        let mut error = [0_u8; ERROR_BYTES];
        let work = mmsb_compute {
            size: size_of::<mmsb_compute>() as u64,
            inputs: inputs.as_ptr(),
            input_count: inputs.len() as u64,
            params: bytes_of(&self.params),
            output_len,
            start: range.start,
            out: out.as_mut_ptr(),
            out_len: out.len() as u64,
            error: error.as_mut_ptr().cast(),
            error_capacity: ERROR_BYTES as u64,
        };
        // SAFETY: the caller of `mmsb_registry_add` vouches for the function, and everything in `work` lives until it returns.
        let result = in_transform(|| unsafe { (self.code.compute)(self.code.user_data, &work) });
        if result == 0 {
            return Ok(());
        }
        let len = error
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(ERROR_BYTES);
        let said = String::from_utf8_lossy(error.get(..len).unwrap_or_default());
        let name = &self.code.name;
        Err(TransformError::failed(match &*said {
            "" => format!("{name} returned {result}"),
            said => said.to_owned(),
        }))
    }
}
