//! Transforms by name and version, so that a log written by one process is computed by another.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use super::{
    builtin,
    transform::{Transform, TransformError},
};

/// At most this many names are offered where one was not found.
const MAX_SUGGESTIONS: usize = 3;

type Factory = Arc<dyn Fn(&[u8]) -> Result<Arc<dyn Transform>, TransformError> + Send + Sync>;

/// The transforms that a process can compute, each a factory from parameters.
///
/// ```
/// use mmsb_engine::graph::TransformRegistry;
/// let registry = TransformRegistry::with_builtins();
/// assert_eq!(registry.create("xor", 1, &[])?.name(), "xor");
/// let error = registry.create("xro", 1, &[]).err().map(|e| e.to_string()).unwrap_or_default();
/// assert!(error.contains("xor@1"));
/// # Ok::<(), mmsb_engine::graph::RegistryError>(())
/// ```
#[derive(Clone, Default)]
pub struct TransformRegistry {
    // Ordered, so that listings and suggestions are the same in every run.
    factories: BTreeMap<String, BTreeMap<u32, Factory>>,
}

impl TransformRegistry {
    /// A registry that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A registry that knows the built-in transforms, all at version 1.
    #[must_use]
    pub fn with_builtins() -> Self {
        let mut registry = Self::new();
        // An empty registry has no name that a built-in could clash with.
        let registered = builtin::register_builtins(&mut registry);
        debug_assert!(registered.is_ok());
        registry
    }

    /// Adds a transform. `factory` makes it from the bytes that its [`Transform::params`] gives.
    ///
    /// # Errors
    /// [`RegistryError::Duplicate`] if the name has that version already: two meanings of one
    /// identity would make a log mean two things.
    pub fn register<F>(&mut self, name: &str, version: u32, factory: F) -> Result<(), RegistryError>
    where
        F: Fn(&[u8]) -> Result<Arc<dyn Transform>, TransformError> + Send + Sync + 'static,
    {
        let versions = self.factories.entry(name.to_owned()).or_default();
        if versions.contains_key(&version) {
            return Err(RegistryError::Duplicate {
                name: name.to_owned(),
                version,
            });
        }
        versions.insert(version, Arc::new(factory));
        Ok(())
    }

    /// Makes the transform of that name and version.
    ///
    /// # Errors
    /// [`RegistryError::UnknownName`] and [`RegistryError::UnknownVersion`] say what there is
    /// instead, [`RegistryError::Params`] what the factory refused.
    pub fn create(
        &self,
        name: &str,
        version: u32,
        params: &[u8],
    ) -> Result<Arc<dyn Transform>, RegistryError> {
        let versions = self
            .factories
            .get(name)
            .ok_or_else(|| RegistryError::UnknownName {
                name: name.to_owned(),
                version,
                nearest: self.nearest(name).join(", "),
            })?;
        let factory = versions
            .get(&version)
            .ok_or_else(|| RegistryError::UnknownVersion {
                name: name.to_owned(),
                version,
                known: versions
                    .keys()
                    .map(|v| format!("{name}@{v}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        factory(params).map_err(|source| RegistryError::Params {
            name: name.to_owned(),
            version,
            source,
        })
    }

    /// Names and versions, in the order of names and then of versions.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.factories
            .iter()
            .flat_map(|(name, versions)| versions.keys().map(move |v| (name.as_str(), *v)))
    }

    fn nearest(&self, wanted: &str) -> Vec<String> {
        let mut found: Vec<(usize, &str, u32)> = self
            .iter()
            .map(|(name, version)| (edit_distance(wanted, name), name, version))
            .collect();
        found.sort_unstable();
        found
            .into_iter()
            .take(MAX_SUGGESTIONS)
            .map(|(_, name, version)| format!("{name}@{version}"))
            .collect()
    }
}

impl std::fmt::Debug for TransformRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(n, v)| format!("{n}@{v}")))
            .finish()
    }
}

/// Levenshtein distance in characters, by one row of the table.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let (first, rest) = match row.split_first_mut() {
            Some(parts) => parts,
            None => return 0,
        };
        *first = left;
        for (cell, to) in rest.iter_mut().zip(b.chars()) {
            let replace = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = replace.min(*cell + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Why a transform was not registered or not made.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The identity is taken.
    #[error("transform {name}@{version} is registered already; give the new one another version")]
    Duplicate {
        /// Its name.
        name: String,
        /// Its version.
        version: u32,
    },
    /// No transform has that name.
    #[error("no transform {name}@{version}; register it before opening. nearest known: {nearest}")]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The version asked for.
        version: u32,
        /// Names that are spelt alike, nearest first.
        nearest: String,
    },
    /// The transform is known, but not in that version.
    #[error("no transform {name}@{version}; register that version before opening. known: {known}")]
    UnknownVersion {
        /// The name asked for.
        name: String,
        /// The version asked for.
        version: u32,
        /// The versions there are.
        known: String,
    },
    /// The factory refused the parameters.
    #[error("cannot make transform {name}@{version}: {source}")]
    Params {
        /// The name asked for.
        name: String,
        /// The version asked for.
        version: u32,
        /// What the factory said.
        source: TransformError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Copy;

    fn copy(_: &[u8]) -> Result<Arc<dyn Transform>, TransformError> {
        Ok(Arc::new(Copy))
    }

    #[test]
    fn distance_counts_single_edits() {
        assert_eq!(edit_distance("xor", "xor"), 0);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn one_identity_has_one_meaning() {
        let mut registry = TransformRegistry::with_builtins();
        let error = registry.register("copy", 1, copy).unwrap_err();
        assert!(matches!(error, RegistryError::Duplicate { version: 1, .. }));
        registry.register("copy", 2, copy).unwrap();
        let error = registry.create("copy", 9, &[]).err().unwrap();
        assert!(
            error.to_string().ends_with("known: copy@1, copy@2"),
            "{error}"
        );
    }

    #[test]
    fn unknown_names_offer_the_nearest() {
        let registry = TransformRegistry::with_builtins();
        let error = registry.create("concta", 1, &[]).err().unwrap();
        assert!(
            error.to_string().contains("nearest known: concat@1"),
            "{error}"
        );
    }

    #[test]
    fn iteration_is_ordered() {
        let registry = TransformRegistry::with_builtins();
        let names: Vec<_> = registry.iter().collect();
        assert_eq!(
            names,
            [
                ("concat", 1),
                ("copy", 1),
                ("elementwise", 1),
                ("slice", 1),
                ("xor", 1)
            ]
        );
    }
}
