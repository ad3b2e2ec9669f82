//! What the environment says about the device to simulate.

use crate::codes::Code;

/// See the table in the crate's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) memory_bytes: u64,
    pub(crate) pinned_bytes: u64,
    pub(crate) devices: u32,
    pub(crate) version: u32,
    pub(crate) capability: u32,
    pub(crate) init_error: Code,
    pub(crate) seed: u64,
    pub(crate) faults: String,
    pub(crate) log: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            pinned_bytes: 1 << 30,
            devices: 1,
            version: 12_000,
            capability: 75,
            init_error: 0,
            seed: 0,
            faults: String::new(),
            log: None,
        }
    }
}

impl Settings {
    /// From the environment. What is not a number is reported, not guessed.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let base = Self::default();
        Ok(Self {
            memory_bytes: number("MMSB_SIM_MEMORY_BYTES", base.memory_bytes)?,
            pinned_bytes: number("MMSB_SIM_PINNED_BYTES", base.pinned_bytes)?,
            devices: narrow("MMSB_SIM_DEVICES", base.devices)?,
            version: narrow("MMSB_SIM_VERSION", base.version)?,
            capability: narrow("MMSB_SIM_CAPABILITY", base.capability)?,
            init_error: narrow("MMSB_SIM_INIT_ERROR", base.init_error)?,
            seed: number("MMSB_SIM_SEED", base.seed)?,
            faults: std::env::var("MMSB_SIM_FAULTS").unwrap_or_default(),
            log: std::env::var("MMSB_SIM_LOG").ok(),
        })
    }
}

fn number(name: &str, otherwise: u64) -> Result<u64, String> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{name} is not a number: {text}")),
        Err(_) => Ok(otherwise),
    }
}

fn narrow(name: &str, otherwise: u32) -> Result<u32, String> {
    number(name, u64::from(otherwise))?
        .try_into()
        .map_err(|_| format!("{name} is too large"))
}
