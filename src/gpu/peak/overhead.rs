//! What a call costs before anything is computed, and how fast data gets to the device.

use super::probe::{Lab, Params, Shader, Work};
use crate::error::Result;
use crate::gpu::memory::Buffer;
use crate::gpu::pack::CHUNK;
use crate::gpu::{host, transfer};
use std::hint::black_box;
use std::time::Instant;

/// A dispatch with hardly anything in it, and its result.
pub struct Small {
    work: Work,
    result: Buffer,
}

/// Bytes that [`Small::readback`] reads: the activations of one column of a usual model.
const READBACK: u64 = 16 << 10;
/// Dispatches of a pass that measures one.
const DISPATCHES: u32 = 1000;
/// Bytes of an upload: beyond most caches.
const UPLOAD: u64 = 256 << 20;

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
    pub fn dispatch(&self, lab: &Lab, seconds: f64) -> Result<f64> {
        let record = |pass: &mut wgpu::ComputePass| (0..DISPATCHES).for_each(|_| self.work.record(pass, 1));
        Ok(median(seconds, || lab.pass(record))? / f64::from(DISPATCHES))
    }

    /// Encoding one dispatch, submitting it and waiting for its end.
    pub fn submit(&self, lab: &Lab, seconds: f64) -> Result<f64> {
        median(seconds, || {
            let start = Instant::now();
            let mut encoder = lab.context.encoder();
            self.work.record(&mut encoder.begin_compute_pass(&Default::default()), 1);
            lab.context.submit(encoder)?;
            lab.context.wait()?;
            Ok(start.elapsed().as_secs_f64())
        })
    }

    /// Copying a small result to where the host reads it, and reading it.
    pub fn readback(&self, lab: &Lab, seconds: f64) -> Result<f64> {
        median(seconds, || {
            let start = Instant::now();
            let mut encoder = lab.context.encoder();
            let staging =
                transfer::stage(lab.context, &mut encoder, "a small result", &self.result, READBACK)?;
            transfer::submit_and_read_blocking(lab.context, encoder, &staging, READBACK as usize / 4)?;
            Ok(start.elapsed().as_secs_f64())
        })
    }
}

/// The median of what `sample` returns: the first, which compiles and allocates, left out, three
/// others at least.
fn median(seconds: f64, mut sample: impl FnMut() -> Result<f64>) -> Result<f64> {
    sample()?;
    let start = Instant::now();
    let mut samples = vec![];
    while samples.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        samples.push(sample()?);
    }
    samples.sort_by(f64::total_cmp);
    Ok(samples[samples.len() / 2].max(1e-9))
}

/// GB/s of the queue's writes in chunks, as weights are uploaded, and of a plain copy of the same
/// bytes by one thread.
pub fn upload(lab: &Lab, seconds: f64) -> Result<(f64, f64)> {
    let room = host::available_memory().map_or(u64::MAX, |bytes| bytes / 8);
    let bytes = UPLOAD.min(lab.context.caps().max_buffer).min(room).min(lab.context.memory_left()) & !3;
    let source = vec![1u8; bytes as usize];
    let speed = |unit: f64| bytes as f64 / unit * 1e-9;
    let target = transfer::buffer(lab.context, "memory to upload to", bytes, transfer::INPUT)?;
    let upload = lab.best_of(seconds, |times| {
        let start = Instant::now();
        (0..times).try_for_each(|_| write(lab, &target, &source))?;
        lab.context.wait()?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    let mut copy = vec![2u8; bytes as usize];
    let host = lab.best_of(seconds, |times| {
        let start = Instant::now();
        (0..times).for_each(|_| black_box(&mut copy).copy_from_slice(black_box(&source)));
        Ok(start.elapsed().as_secs_f64())
    })?;
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
