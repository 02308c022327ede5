//! What LLM.int8 makes of activations, for those who want to see it.

use super::context::Context;
use super::run::TaskProgram;
use super::transfer;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernel::llm_int8::{self, Find, Staged};
use crate::kernel::program::Tokens;
use crate::kernel::{Threshold, shapes};
use crate::tensor::check_finite;

/// [`Runtime::quantize_activations_async`](super::Runtime::quantize_activations_async).
pub(super) async fn quantize_activations(
    context: &Context,
    w: &Weights,
    x: &[f32],
    threshold: Threshold,
) -> Result<Staged> {
    context.owns(w)?;
    check_finite(&format!("activations for `{}`", w.name()), x)?;
    let k = w.cols();
    let n = shapes::batch(w.name(), k, x.len())?;
    if n == 0 || w.shard_count() == 0 {
        return Err(Error::Argument(format!("there is nothing to quantize for `{}`", w.name())));
    }
    let outliers = match threshold.is_some() {
        true => staged_words(context, w, x, (n, threshold), Find::Outliers).await?,
        false => vec![],
    };
    let codes = staged_words(context, w, x, (n, threshold), Find::Codes).await?;
    Ok(Staged::from_words(&codes, &outliers, k, context.caps()))
}

async fn staged_words(
    context: &Context,
    w: &Weights,
    x: &[f32],
    (n, threshold): (usize, Threshold),
    find: Find,
) -> Result<Vec<u32>> {
    let name = w.name();
    let mut program = context.program(Tokens::Exactly(n));
    let (input, y) = (program.slot("x", w.cols()), program.slot("y", 1));
    program.with_weight(w, |plan, w| llm_int8::stage(plan, w, input, y, threshold, find))?;
    let count = llm_int8::stage_words(find, n, w.cols(), context.caps());
    let task = TaskProgram { program, inputs: vec![input], y, count };
    let x = transfer::filled(context, &format!("activations for `{name}`"), x)?;
    let (encoder, staging, count) = context.encode_result(name, &task, &[x], 0)?;
    let y = transfer::submit_and_read(context, encoder, &staging, count).await?;
    Ok(y.into_iter().map(f32::to_bits).collect())
}
