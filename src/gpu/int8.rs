//! What LLM.int8 makes of activations, for those who want to see it.

use super::run::TaskProgram;
use super::runtime::Runtime;
use super::transfer;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernel::llm_int8::{self, Find, Staged};
use crate::kernel::program::Tokens;
use crate::kernel::{Threshold, shapes};
use crate::tensor::check_finite;

impl Runtime {
    /// The codes, largest magnitudes and outlier features of activations `x[n, k]` for INT8 weights
    /// `w[m, k]`, as [`Activations::Int8`](crate::Activations::Int8) multiplies them.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not a whole number of columns, [`Error::NonFinite`],
    /// [`Error::LimitExceeded`] if x exceeds one binding, and the device's errors.
    pub fn quantize_activations(&self, w: &Weights, x: &[f32], threshold: Threshold) -> Result<Staged> {
        self.context().owns(w)?;
        check_finite(&format!("activations for `{}`", w.name()), x)?;
        let k = w.cols();
        let n = shapes::batch(w.name(), k, x.len())?;
        if n == 0 || w.shard_count() == 0 {
            return Err(Error::Argument(format!("there is nothing to quantize for `{}`", w.name())));
        }
        let words = |find| self.staged_words(w, x, (n, threshold), find);
        let outliers = if threshold.is_some() { words(Find::Outliers)? } else { vec![] };
        Ok(Staged::from_words(&words(Find::Codes)?, &outliers, k, self.caps()))
    }

    fn staged_words(
        &self,
        w: &Weights,
        x: &[f32],
        (n, threshold): (usize, Threshold),
        find: Find,
    ) -> Result<Vec<u32>> {
        let name = w.name();
        let mut program = self.program(Tokens::Exactly(n));
        let (input, y) = (program.slot("x", w.cols()), program.slot("y", 1));
        program.with_weight(w, |plan, w| llm_int8::stage(plan, w, input, y, threshold, find))?;
        let count = llm_int8::stage_words(find, n, w.cols(), self.caps());
        let task = TaskProgram { program, inputs: vec![input], y, count };
        let x = transfer::filled(self.context(), &format!("activations for `{name}`"), x)?;
        let (encoder, staging, count) = self.context().encode_result(name, &task, &[x], 0)?;
        let y = transfer::submit_and_read_blocking(self.context(), encoder, &staging, count)?;
        Ok(y.into_iter().map(f32::to_bits).collect())
    }
}
