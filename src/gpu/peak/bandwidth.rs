//! How fast memory is read, copied and written.

use super::probe::{Lab, Params, Shader, Work};
use super::{Bandwidth, MemorySpeed};
use crate::error::{Error, Result};
use crate::gpu::{host, transfer};
use crate::kernel::Caps;
use std::ops::Range;
use web_time::Instant;

/// An operation on memory.
struct Operation {
    name: &'static str,
    shader: &'static str,
    /// How often each byte of the size counts.
    traffic: f64,
}

const READ: Operation =
    Operation { name: "read", shader: include_str!("../../../shaders/peak/read.wgsl"), traffic: 1.0 };
const COPY: Operation =
    Operation { name: "copy", shader: include_str!("../../../shaders/peak/copy.wgsl"), traffic: 2.0 };
const WRITE: Operation =
    Operation { name: "write", shader: include_str!("../../../shaders/peak/write.wgsl"), traffic: 1.0 };

/// How the words of a buffer are dealt out to invocations.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Invocations of a workgroup.
    lanes: u32,
    /// Loads of an iteration, which need not wait for each other.
    loads: u32,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// A workgroup takes a run of so many iterations; its lanes take neighbouring words.
    Slab(u32),
    /// So many workgroups stride over the whole buffer together; lanes take neighbouring words.
    Grid(u32),
    /// Each lane takes a run of so many iterations of its own.
    Run(u32),
}

/// The shapes to try on a device; the fastest counts.
///
/// GPUs: many small workgroups, or as many as are resident at once. Software: a subgroup is one
/// register and a word costs a scalar load per lane, so long loops of many independent loads win.
/// Of 42 shapes (8 and 64 lanes; 1, 4, 8 loads; slabs, grids, runs and one address for all lanes)
/// these two led on Mesa 22.3.6 (slab) and 26.2.6 (run reads and writes 40 % faster, slab copies
/// faster); strides over the whole buffer lost up to half.
fn shapes(caps: &Caps) -> Vec<Shape> {
    let shape = |lanes: u32, loads, way| Shape { lanes: lanes.min(caps.max_workgroup), loads, way };
    match caps.software {
        true => {
            let lanes = caps.subgroup.map_or(8, |(_, most)| most);
            vec![shape(lanes, 8, Way::Slab(512)), shape(64, 8, Way::Run(64))]
        }
        false => vec![
            shape(256, 4, Way::Slab(1)),
            shape(256, 8, Way::Slab(4)),
            shape(256, 4, Way::Grid(2048)),
            shape(256, 8, Way::Grid(1024)),
        ],
    }
}

/// A shape on a buffer: constants, parameters, workgroups, and the words that it touches.
struct Plan {
    header: String,
    params: Params,
    groups: u32,
    words: u64,
}

impl Shape {
    /// The plan for `words` words of 16 bytes with at most `most` workgroups.
    fn plan(&self, words: u32, most: u32) -> Plan {
        let Self { lanes, loads, way } = *self;
        let blocks = (words / (lanes * loads)).max(1);
        let (groups, iterations) = match way {
            Way::Grid(groups) => (groups.min(blocks), blocks / groups.min(blocks)),
            Way::Slab(run) | Way::Run(run) => {
                let iterations = run.max(blocks.div_ceil(most)).min(blocks);
                (blocks / iterations, iterations)
            }
        };
        let block = lanes * loads;
        let [lane, group_step, iteration_step, load_step] = match way {
            Way::Slab(_) => [1, block * iterations, block, lanes],
            Way::Grid(_) => [1, lanes, block * groups, lanes * groups],
            Way::Run(_) => [loads * iterations, block * iterations, loads, 1],
        };
        Plan {
            header: format!("const LANES = {lanes}u;\nconst LOADS = {loads}u;\nconst LANE_STEP = {lane}u;\n"),
            params: Params { iterations, group_step, iteration_step, load_step, ..Params::default() },
            groups,
            words: u64::from(groups) * u64::from(iterations) * u64::from(block),
        }
    }
}

/// Two buffers of noise, as large as is worth measuring.
struct Memory {
    a: crate::gpu::memory::Buffer,
    b: crate::gpu::memory::Buffer,
    bytes: u64,
}

/// The smallest size: in a cache everywhere.
const SMALLEST: u64 = 1 << 20;

impl Memory {
    /// Buffers of the largest size that the device grants.
    async fn new(lab: &Lab<'_>) -> Result<Self> {
        let mut bytes = largest(lab.context.caps());
        loop {
            let buffer = |what| transfer::buffer(lab.context, what, bytes, transfer::OUTPUT);
            match buffer("memory to read").and_then(|a| Ok((a, buffer("memory to write")?))) {
                Ok((a, b)) => {
                    let memory = Self { a, b, bytes };
                    memory.fill(lab, &memory.a, &memory.b).await?;
                    memory.fill(lab, &memory.b, &memory.a).await?;
                    return Ok(memory);
                }
                Err(Error::OutOfMemory { .. }) if bytes > SMALLEST => bytes /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Sizes from a cache's to far beyond it.
    fn sizes(&self) -> Vec<u64> {
        let steps = (0..).map(|power| SMALLEST << (2 * power)).take_while(|size| *size < self.bytes);
        steps.chain([self.bytes]).collect()
    }

    /// Untouched pages of a software driver are all one page of zeros, which a cache holds.
    async fn fill(&self, lab: &Lab<'_>, to: &wgpu::Buffer, other: &wgpu::Buffer) -> Result<()> {
        let shape = shapes(lab.context.caps())[0];
        let (work, _) = prepare(lab, &WRITE, shape, (other, to), self.bytes)?;
        lab.pass(|pass| work.record(pass, 1)).await.map(drop)
    }
}

/// Beyond every cache, within the device's limits, and little beside the memory there is.
fn largest(caps: &Caps) -> u64 {
    let wanted = match caps.software {
        true => (4 * host::last_level_cache().unwrap_or(0)).next_power_of_two().clamp(256 << 20, 1 << 30),
        false => 1 << 30,
    };
    let room = host::available_memory().map_or(u64::MAX, |bytes| bytes / 8);
    let bytes = wanted.min(caps.max_binding).min(caps.max_buffer).min(room).max(SMALLEST);
    1 << bytes.ilog2()
}

/// All operations at all sizes.
pub async fn all(lab: &Lab<'_>, seconds: f64) -> Result<Vec<Bandwidth>> {
    let memory = Memory::new(lab).await?;
    let mut rows = vec![];
    for operation in [READ, COPY, WRITE] {
        for bytes in memory.sizes() {
            rows.push(measure(lab, &operation, &memory, bytes, seconds).await?);
        }
    }
    Ok(rows)
}

/// Copying at the largest size.
pub async fn copy(lab: &Lab<'_>, seconds: f64) -> Result<Bandwidth> {
    let memory = Memory::new(lab).await?;
    measure(lab, &COPY, &memory, memory.bytes, seconds).await
}

/// Reading and copying at the largest size.
pub async fn beyond_the_cache(lab: &Lab<'_>, seconds: f64) -> Result<MemorySpeed> {
    let memory = Memory::new(lab).await?;
    let read = measure(lab, &READ, &memory, memory.bytes, seconds).await?;
    let copy = measure(lab, &COPY, &memory, memory.bytes, seconds).await?;
    Ok(MemorySpeed { read_gb_per_s: read.gb_per_s, copy_gb_per_s: copy.gb_per_s })
}

/// Parts of the memory that [`copy_in_windows`] copies in turn: what is copied between two visits
/// to one of them is far beyond every cache.
const WINDOWS: u32 = 16;

/// The best copy of one window by each way in turn, again and again. On a processor that others use
/// too, one copy of everything lasts so long that all of them are disturbed; some copy of a window
/// is not.
async fn copy_in_windows(lab: &Lab<'_>, memory: &Memory, seconds: f64) -> Result<Bandwidth> {
    let bytes = memory.bytes / u64::from(WINDOWS);
    let buffers = (&*memory.a, &*memory.b);
    let windows = || (0..u64::from(WINDOWS)).map(|window| window * bytes);
    let mut ways = vec![];
    for shape in shapes(lab.context.caps()) {
        let (work, touched) = prepare(lab, &COPY, shape, buffers, bytes)?;
        let works = windows().map(|start| lab.on_part(&work, buffers, start..start + bytes));
        ways.push((format!("{shape:?}"), works.collect::<Result<Vec<_>>>()?, touched, 0.0_f64));
    }
    let mut by_command = 0.0_f64;
    let start = Instant::now();
    for round in 0.. {
        // The first compiles and faults pages in, and does not count.
        if round > 2 && start.elapsed().as_secs_f64() >= seconds {
            break;
        }
        for (window, offset) in windows().enumerate() {
            let speed = |bytes: u64, time: f64| if round == 0 { 0.0 } else { bytes as f64 / time.max(1e-9) };
            for (_, works, touched, best) in &mut ways {
                *best = best.max(speed(*touched, lab.pass(|pass| works[window].record(pass, 1)).await?));
            }
            let time = copy_command(lab, memory, offset..offset + bytes, 1).await?;
            by_command = by_command.max(speed(bytes, time));
        }
    }
    let mut best = by_command;
    report(&COPY, bytes, "command", by_command);
    for (way, _, _, speed) in &ways {
        report(&COPY, bytes, way, *speed);
        best = best.max(*speed);
    }
    Ok(Bandwidth { operation: COPY.name, bytes: memory.bytes, gb_per_s: COPY.traffic * best * 1e-9 })
}

/// The fastest way to do `operation` on the first `bytes` of memory.
async fn measure(
    lab: &Lab<'_>,
    operation: &Operation,
    memory: &Memory,
    bytes: u64,
    seconds: f64,
) -> Result<Bandwidth> {
    let (shapes, is_copy) = (shapes(lab.context.caps()), operation.name == COPY.name);
    let is_largest = bytes == memory.bytes && bytes >= u64::from(WINDOWS) * SMALLEST;
    if is_copy && is_largest && lab.context.caps().software {
        return copy_in_windows(lab, memory, seconds).await;
    }
    let each = seconds / (shapes.len() + 1) as f64;
    let mut best = 0.0_f64;
    for shape in shapes {
        let (work, touched) = prepare(lab, operation, shape, (&memory.a, &memory.b), bytes)?;
        let speed = touched as f64 / lab.best(&work, each).await?;
        report(operation, bytes, &format!("{shape:?}"), speed);
        best = best.max(speed);
    }
    if is_copy {
        let speed =
            bytes as f64 / lab.best_of(each, |times| copy_command(lab, memory, 0..bytes, times)).await?;
        report(operation, bytes, "command", speed);
        best = best.max(speed);
    }
    Ok(Bandwidth { operation: operation.name, bytes, gb_per_s: operation.traffic * best * 1e-9 })
}

/// A shape's figure for those who look for a better shape.
fn report(operation: &Operation, bytes: u64, way: &str, speed: f64) {
    let gb_per_s = operation.traffic * speed * 1e-9;
    log::debug!("{} of {bytes} bytes, {way}: {gb_per_s:.2} GB/s", operation.name);
}

/// One shape of an operation on the first `bytes` of (a, b), and how many of them it touches.
fn prepare(
    lab: &Lab,
    operation: &Operation,
    shape: Shape,
    (a, b): (&wgpu::Buffer, &wgpu::Buffer),
    bytes: u64,
) -> Result<(Work, u64)> {
    let plan = shape.plan((bytes / 16) as u32, lab.context.caps().max_groups);
    let shader = Shader { name: operation.name, text: operation.shader, header: &plan.header };
    Ok((lab.work(&shader, plan.params, (a, b), plan.groups)?, plan.words * 16))
}

/// Seconds that `times` copies take as commands of the encoder, which drivers do without a shader.
async fn copy_command(lab: &Lab<'_>, memory: &Memory, part: Range<u64>, times: u32) -> Result<f64> {
    let mut encoder = lab.context.encoder();
    let (start, bytes) = (part.start, part.end - part.start);
    (0..times).for_each(|_| encoder.copy_buffer_to_buffer(&memory.a, start, &memory.b, start, bytes));
    let start = Instant::now();
    lab.context.submit(encoder)?;
    lab.context.wait().await?;
    Ok(start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every address that a shape visits, as the shaders compute it.
    fn visited(plan: &Plan, shape: Shape) -> Vec<u32> {
        let constant = |name: &str| {
            let line = plan.header.lines().find(|l| l.contains(name)).expect("in the header");
            let (_, value) = line.split_once("= ").expect("a value");
            value.trim_end_matches("u;").parse::<u32>().expect("a number")
        };
        let (lane_step, p) = (constant("LANE_STEP"), &plan.params);
        let mut words = vec![];
        for group in 0..plan.groups {
            for lane in 0..shape.lanes {
                for (i, load) in (0..p.iterations).flat_map(|i| (0..shape.loads).map(move |l| (i, l))) {
                    let at = group * p.group_step + lane * lane_step + i * p.iteration_step;
                    words.push(at + load * p.load_step);
                }
            }
        }
        words
    }

    /// Bandwidth is a lie if words are visited twice or not at all.
    #[test]
    fn every_shape_visits_every_word_once() {
        for way in [Way::Slab(1), Way::Slab(512), Way::Grid(7), Way::Grid(2048), Way::Run(64)] {
            for (lanes, loads, words) in [(8, 8, 1 << 16), (64, 4, 1 << 16), (256, 8, 1 << 18), (4, 1, 12)] {
                let shape = Shape { lanes, loads, way };
                let plan = shape.plan(words, 100);
                let mut all = visited(&plan, shape);
                let count = all.len() as u64;
                all.sort_unstable();
                all.dedup();
                assert_eq!((count, all.len() as u64), (plan.words, plan.words), "{shape:?} twice");
                assert!(all.last().is_some_and(|last| *last < words), "{shape:?} beyond the end");
                assert!(plan.words * 10 >= u64::from(words) * 9, "{shape:?} leaves much out");
            }
        }
    }
}
