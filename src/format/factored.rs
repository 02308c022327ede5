//! A weight times a factor: one for the whole weight, or one for each matrix of a stack. Any format
//! may have it; `<module>.scale` of GGUF is one.
//!
//! The device has the factor of a row in the last word of a plane. Products are multiplied by it
//! after their sum, weights that are handed out one by one.

use crate::format::storage::{Part, f32_bytes};
use crate::format::{Layout, MAX_PLANES, Plane, Storage};
use std::ops::Range;
use std::sync::Arc;

/// The constant that tells shaders the plane of the factors.
pub(crate) const FACTOR_PLANE: &str = "FACTOR_PLANE";

/// `w[row, k] = inner[row, k] * factors[row / (rows / factors.len())]`, one rounding more.
#[derive(Debug)]
pub(crate) struct Factored {
    inner: Arc<dyn Storage>,
    /// Rows of one matrix.
    matrix: usize,
    factors: Vec<f32>,
    /// What the file puts behind the module's name: `.scale`.
    suffix: &'static str,
    /// Planes of the weight itself.
    planes: usize,
    /// The plane of the factors.
    plane: usize,
}

impl Factored {
    /// The factors are as many as there are matrices in `rows`, at least one.
    pub fn new(inner: Arc<dyn Storage>, rows: usize, factors: Vec<f32>, suffix: &'static str) -> Self {
        let own = inner.layout().planes;
        let matrix = (rows / factors.len().max(1)).max(1);
        Self { inner, matrix, factors, suffix, planes: own.len(), plane: plane(&own) }
    }

    fn factor(&self, row: usize) -> f32 {
        self.factors[row / self.matrix]
    }
}

/// The plane of the factors in these: one of its own where there is room, otherwise the narrowest.
fn plane(planes: &[Plane]) -> usize {
    let narrowest = planes.iter().enumerate().min_by_key(|(_, plane)| plane.bits_per_256).map(|(i, _)| i);
    if planes.len() < MAX_PLANES { planes.len() } else { narrowest.unwrap_or_default() }
}

impl Storage for Factored {
    fn layout(&self) -> Layout {
        let mut layout = self.inner.layout();
        layout.constants.push((FACTOR_PLANE, self.plane as u32));
        match layout.planes.get_mut(self.plane) {
            // Its data may end at the last word, so there is one more.
            Some(shared) => shared.more_words = shared.more_words.next_multiple_of(4) + 1,
            None => layout.planes.push(Plane { name: "factor", bits_per_256: 0, more_words: 1 }),
        }
        layout
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = self.inner.parts();
        let factors = Part::sibling(self.suffix, "F32", vec![self.factors.len()]);
        parts.push(factors.with_bytes(f32_bytes(&self.factors)));
        parts
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.inner.decode_row(row, out);
        let factor = self.factor(row);
        out.iter_mut().for_each(|w| *w *= factor);
    }

    fn is_finite(&self, rows: Range<usize>) -> bool {
        rows.clone().all(|row| self.factor(row).is_finite()) && self.inner.is_finite(rows)
    }

    fn pack_row(&self, row: usize, planes: &mut [&mut [u32]]) {
        self.inner.pack_row(row, &mut planes[..self.planes]);
        if let Some(word) = planes[self.plane].last_mut() {
            *word = self.factor(row).to_bits();
        }
    }

    fn without_columns(&self, columns: &[u32]) -> Option<Arc<dyn Storage>> {
        let inner = self.inner.without_columns(columns)?;
        Some(Arc::new(Self { inner, factors: self.factors.clone(), ..*self }))
    }
}
