//! Which kernel was measured to be the fastest, by classes of problems.

use super::types::Problem;
use crate::format::Format;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A choice for a class of requests: weights of one format and about the same size, batches of
/// about as many columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// Format of the weight.
    pub format: String,
    /// How the activations are taken.
    pub activations: String,
    /// The weight is a stack of experts.
    pub experts: bool,
    /// Rows of the weight, as the next power of two.
    pub m: usize,
    /// Columns of the weight, as the next power of two.
    pub k: usize,
    /// Columns of the batch: up to 8, or the next power of two.
    pub n: usize,
    /// The fastest kernel, and its variant: `gemv:4x64`.
    pub kernel: String,
    /// Its time for the request that was measured.
    pub micros: f64,
}

impl Tuned {
    /// The class of a request, with the choice left open.
    pub fn class(format: &Format, request: &Problem) -> Self {
        let n = if request.batch <= 8 { request.batch } else { request.batch.next_power_of_two() };
        Self {
            format: format.name.into(),
            activations: request.activations.name().into(),
            experts: request.experts,
            m: request.rows.next_power_of_two(),
            k: request.cols.next_power_of_two(),
            n,
            kernel: String::new(),
            micros: 0.0,
        }
    }

    fn key(&self) -> Key {
        (self.format.clone(), self.activations.clone(), self.experts, self.m, self.k, self.n)
    }
}

type Key = (String, String, bool, usize, usize, usize);

/// The choices for one device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preferences {
    table: BTreeMap<Key, Tuned>,
}

impl Preferences {
    /// The kernel and variant that were measured to be the fastest for problems like this.
    pub fn get(&self, format: &Format, problem: &Problem) -> Option<&str> {
        // Planning asks for each kernel: no key is made where nothing was measured.
        if self.table.is_empty() {
            return None;
        }
        self.table.get(&Tuned::class(format, problem).key()).map(|tuned| &*tuned.kernel)
    }

    /// All choices, in order.
    pub fn list(&self) -> Vec<Tuned> {
        self.table.values().cloned().collect()
    }

    /// Prefers a kernel.
    pub fn set(&mut self, tuned: Tuned) {
        self.table.insert(tuned.key(), tuned);
    }
}

impl FromIterator<Tuned> for Preferences {
    fn from_iter<T: IntoIterator<Item = Tuned>>(choices: T) -> Self {
        Self { table: choices.into_iter().map(|choice| (choice.key(), choice)).collect() }
    }
}
