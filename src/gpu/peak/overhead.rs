//! What a call costs before anything is computed, and how fast data gets to the device.

use super::probe::{Lab, Params, Shader, Work};
use crate::error::Result;
use crate::gpu::memory::Buffer;
use crate::gpu::pack::CHUNK;
use crate::gpu::{host, transfer};
use std::future::{Future, ready};
use std::hint::black_box;
use web_time::Instant;

/// A dispatch with hardly anything in it, and its result.
pub struct Small {
    work: Work,
    result: Buffer,
}

/// Bytes that [`Small::readback`] reads: the activations of one column of a usual model.
const READBACK: u64 = 16 << 10;
/// Dispatches of a pass that measures one.
const DISPATCHES: u32 = 1000;
/// Bytes of an upload: beyond most caches; less in a browser, where a page's memory never shrinks.
const UPLOAD: u64 = if cfg!(target_family = "wasm") { 32 << 20 } else { 256 << 20 };

impl Small {
    pub fn new(lab: &Lab) -> Result<Self> {
        let text = include_str!("../../../shaders/peak/nothing.wgsl");
        let shader = Shader { name: "nothing", text, header: "const LANES = 1u;\n" };
        let buffer = |what| transfer::buffer(lab.context, what, READBACK, transfer::OUTPUT);
        let result = buffer("a small result")?;
        let work = lab.work(&shader, Params::default(), (&*buffer("nothing")?, &*result), 1)?;
        Ok(Self { work, result })
    }

    /// One of many dispatches in a pass, each of which waits for the last one's result.
    pub async fn dispatch(&self, lab: &Lab<'_>, seconds: f64) -> Result<f64> {
        let record = |pass: &mut wgpu::ComputePass| (0..DISPATCHES).for_each(|_| self.work.record(pass, 1));
        Ok(median(seconds, || lab.pass(record)).await? / f64::from(DISPATCHES))
    }

    /// Encoding one dispatch, submitting it and waiting for its end.
    pub async fn submit(&self, lab: &Lab<'_>, seconds: f64) -> Result<f64> {
        median(seconds, || async {
            let start = Instant::now();
            let mut encoder = lab.context.encoder();
            self.work.record(&mut encoder.begin_compute_pass(&Default::default()), 1);
            lab.context.submit(encoder)?;
            lab.context.wait().await?;
            Ok(start.elapsed().as_secs_f64())
        })
        .await
    }

    /// Copying a small result to where the host reads it, and reading it.
    pub async fn readback(&self, lab: &Lab<'_>, seconds: f64) -> Result<f64> {
        median(seconds, || async {
            let start = Instant::now();
            let mut encoder = lab.context.encoder();
            let staging =
                transfer::stage(lab.context, &mut encoder, "a small result", &self.result, READBACK)?;
            transfer::submit_and_read(lab.context, encoder, &staging, READBACK as usize / 4).await?;
            Ok(start.elapsed().as_secs_f64())
        })
        .await
    }
}

/// The median of what `sample` returns: the first, which compiles and allocates, left out, three
/// others at least.
async fn median<F: Future<Output = Result<f64>>>(seconds: f64, mut sample: impl FnMut() -> F) -> Result<f64> {
    sample().await?;
    let start = Instant::now();
    let mut samples = vec![];
    while samples.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        samples.push(sample().await?);
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2].max(1e-9))
}

/// GB/s of the queue's writes in chunks, as weights are uploaded, and of a plain copy of the same
/// bytes by one thread.
pub async fn upload(lab: &Lab<'_>, seconds: f64) -> Result<(f64, f64)> {
    let room = host::available_memory().map_or(u64::MAX, |bytes| bytes / 8);
    let bytes = UPLOAD.min(lab.context.caps().max_buffer).min(room).min(lab.context.memory_left()) & !3;
    let source = vec![1u8; bytes as usize];
    let speed = |unit: f64| bytes as f64 / unit * 1e-9;
    let target = transfer::buffer(lab.context, "memory to upload to", bytes, transfer::INPUT)?;
    let (to, from_host) = (&target, &source);
    let run = |times| async move {
        let start = Instant::now();
        (0..times).try_for_each(|_| write(lab, to, from_host))?;
        lab.context.wait().await?;
        Ok(start.elapsed().as_secs_f64())
    };
    let upload = lab.best_of(seconds, run).await?;
    let mut copy = vec![2u8; bytes as usize];
    let run = |times| {
        let start = Instant::now();
        (0..times).for_each(|_| black_box(&mut copy).copy_from_slice(black_box(&source)));
        ready(Ok(start.elapsed().as_secs_f64()))
    };
    let host = lab.best_of(seconds, run).await?;
    Ok((speed(upload), speed(host)))
}

fn write(lab: &Lab, target: &wgpu::Buffer, source: &[u8]) -> Result<()> {
    for (number, chunk) in source.chunks(CHUNK).enumerate() {
        let doing = || "measuring the upload".into();
        let write = || lab.context.queue().write_buffer(target, (number * CHUNK) as u64, chunk);
        lab.context.catch_errors(doing, chunk.len() as u64, write)?;
        lab.context.submit_all(doing, chunk.len() as u64, [])?;
    }
    Ok(())
}
