//! Modules: what a program has loaded as PTX.

use std::collections::BTreeMap;

use mmsb_kernels_cpu::Kernel;

use crate::codes::{self, Outcome};

/// All modules and their functions. Handles are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    modules: BTreeMap<u64, BTreeMap<String, u64>>,
    functions: BTreeMap<u64, Kernel>,
    last_handle: u64,
}

impl Modules {
    fn handle(&mut self) -> u64 {
        self.last_handle += 16;
        0x9_0000 + self.last_handle
    }

    /// Reads which kernels PTX defines, and finds each of them in the CPU build.
    pub(crate) fn load(&mut self, ptx: &str) -> Result<u64, String> {
        if !ptx.contains(".version") || !ptx.contains(".target") {
            return Err("this is no PTX".into());
        }
        let module = self.handle();
        let mut names = BTreeMap::new();
        for (name, params) in entries(ptx)? {
            let Some(kernel) = Kernel::find(&name) else {
                continue;
            };
            let expected: Vec<u32> = kernel
                .argument_lens()
                .iter()
                .map(|len| u32::from(*len))
                .collect();
            if params != expected {
                return Err(format!(
                    "{name} takes parameters of {params:?} bytes in the PTX, {expected:?} here"
                ));
            }
            let function = self.handle();
            self.functions.insert(function, kernel);
            names.insert(name, function);
        }
        self.modules.insert(module, names);
        Ok(module)
    }

    pub(crate) fn unload(&mut self, module: u64) -> Outcome {
        let names = self.modules.remove(&module).ok_or(codes::INVALID_HANDLE)?;
        for function in names.values() {
            self.functions.remove(function);
        }
        Ok(())
    }

    pub(crate) fn function(&self, module: u64, name: &str) -> Outcome<u64> {
        let names = self.modules.get(&module).ok_or(codes::INVALID_HANDLE)?;
        names.get(name).copied().ok_or(codes::NOT_FOUND)
    }

    pub(crate) fn kernel(&self, function: u64) -> Outcome<Kernel> {
        self.functions
            .get(&function)
            .copied()
            .ok_or(codes::INVALID_HANDLE)
    }

    /// What was never unloaded, in words.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let count = self.modules.len();
        (count > 0)
            .then(|| format!("{count} modules"))
            .into_iter()
            .collect()
    }
}

/// The kernels of PTX: their names, and the lengths of their parameters in bytes.
fn entries(ptx: &str) -> Result<Vec<(String, Vec<u32>)>, String> {
    let mut found = Vec::new();
    let mut rest = ptx;
    while let Some((_, after)) = rest.split_once(".entry ") {
        let (name, after) = after
            .split_once('(')
            .ok_or("an entry without parameters in parentheses")?;
        let (params, after) = after
            .split_once(')')
            .ok_or("the parameters of an entry do not end")?;
        let lengths = params
            .split(',')
            .map(str::trim)
            .filter(|param| !param.is_empty())
            .map(param_len_bytes)
            .collect::<Result<_, _>>()?;
        found.push((name.trim().to_owned(), lengths));
        rest = after;
    }
    Ok(found)
}

/// The length of a parameter such as `.param .u64 name` or `.param .align 8 .b8 name[24]`.
fn param_len_bytes(param: &str) -> Result<u32, String> {
    let wrong = || format!("cannot read the parameter {param}");
    let one = param
        .split_whitespace()
        .find_map(|word| match word {
            ".u64" | ".s64" | ".b64" | ".f64" => Some(8),
            ".u32" | ".s32" | ".b32" | ".f32" => Some(4),
            ".u16" | ".s16" | ".b16" => Some(2),
            ".u8" | ".s8" | ".b8" => Some(1),
            _ => None,
        })
        .ok_or_else(wrong)?;
    match param.split_once('[') {
        None => Ok(one),
        Some((_, count)) => {
            let count: u32 = count
                .trim_end_matches(']')
                .trim()
                .parse()
                .map_err(|_| wrong())?;
            Ok(one * count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_in_ptx() {
        let ptx = ".version 8.0\n.target sm_75\n.visible .entry first(\n\t.param .u64 first_param_0,\n\t.param .u32 first_param_1\n)\n{ ret; }\n\
                   .visible .entry second()\n{ ret; }\n.entry third(.param .align 8 .b8 x[24]){}";
        assert_eq!(
            entries(ptx).unwrap(),
            [
                ("first".to_owned(), vec![8, 4]),
                ("second".to_owned(), vec![]),
                ("third".to_owned(), vec![24]),
            ]
        );
    }

    #[test]
    fn what_is_no_ptx_is_refused() {
        let mut modules = Modules::default();
        assert!(modules.load("hello").is_err());
        let empty = modules.load(".version 8.0\n.target sm_75\n").unwrap();
        assert_eq!(modules.function(empty, "x"), Err(codes::NOT_FOUND));
        modules.unload(empty).unwrap();
        assert_eq!(modules.unload(empty), Err(codes::INVALID_HANDLE));
    }
}
