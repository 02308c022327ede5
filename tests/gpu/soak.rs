//! The same for long: memory and file descriptors stay bounded, and every result is the first
//! one's.
//!
//! A short form by default; `QMATMUL_SOAK=long` runs 10,000 cycles, 2,000 runtimes and an hour of
//! mixed work (`QMATMUL_SOAK_SECONDS` for another time). Each test runs in a process of its own, as
//! memory is the process's.

use crate::common::status;
use crate::device::{VARIANTS, pipelines};
use qmatmul::check::{activations, random_tensor};
use qmatmul::error::Error;
use qmatmul::gpu::Upload;
use qmatmul::{MatmulOptions, Options, PackedTensor, Runtime, format};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn is_long() -> bool {
    std::env::var("QMATMUL_SOAK").is_ok_and(|value| value == "long")
}

fn tensor(format: &str, m: usize, k: usize) -> PackedTensor {
    random_tensor(format, format::by_name(format).expect("a format"), m, k, 7).expect("whole blocks")
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    memory: u64,
    files: usize,
    threads: u64,
}

impl Held {
    fn now() -> Self {
        let files = std::fs::read_dir("/proc/self/fd").expect("Linux").count();
        let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let threads = text.lines().find_map(|line| line.strip_prefix("Threads:")).expect("a line");
        Self { memory: status("VmRSS"), files, threads: threads.trim().parse().expect("a number") }
    }

    /// What is held once threads that are about to end have ended, in two seconds at most: a read
    /// without blocking has one that ends after it.
    fn settled(self) -> Self {
        let start = Instant::now();
        loop {
            let now = Self::now();
            if now.threads <= self.threads || start.elapsed() > Duration::from_secs(2) {
                return now;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Bytes that are held more later.
    fn grown(self, later: Self) -> u64 {
        later.memory.saturating_sub(self.memory)
    }

    /// Fails if more is held now, but for `slack` bytes.
    fn compare(self, what: &str, slack: u64) {
        let now = self.settled();
        let grown = self.grown(now);
        eprintln!("{what}: {} KiB more, {self:?} then, {now:?} now", grown >> 10);
        assert!(grown <= slack, "{what}: {grown} bytes more, {slack} allowed");
        assert!(now.files <= self.files, "{what}: {} files open, {} before", now.files, self.files);
        assert!(now.threads <= self.threads, "{what}: {} threads, {} before", now.threads, self.threads);
    }
}

/// Runs a test of this file in a process of its own. True inside of it.
fn alone(test: &str) -> bool {
    const INSIDE: &str = "QMATMUL_TEST_ALONE";
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return true;
    }
    let status = std::process::Command::new(std::env::current_exe().expect("a test"))
        .args([&format!("soak::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .status()
        .expect("the test starts");
    assert!(status.success(), "{test}: {status}");
    false
}

/// The growth that is allowed for `all` rounds, for those of this run: an eighth for what any
/// process has, the rest by their number.
fn share(bytes: u64, rounds: usize, all: usize) -> u64 {
    bytes / 8 + bytes / 8 * 7 * rounds as u64 / all as u64
}

#[test]
fn cycles() {
    let _stated = pipelines(5);
    if !alone("cycles") {
        return;
    }
    const ALL: usize = 10_000;
    let rounds = if is_long() { ALL } else { 200 };
    let runtime = crate::device::open(&VARIANTS[0].options());
    let tensors = ["Q4_0", "Q6_K", "NF4"].map(|format| tensor(format, 256, 512));
    let x = activations(3 * 512, 1);
    let cycle = |packed: &PackedTensor| {
        let w = runtime.upload(packed).expect("small");
        runtime.matmul(&w, &x).expect("small")
    };
    let want = tensors.each_ref().map(cycle);
    // Pools of the driver and of the allocator fill up.
    (0..rounds / 10).for_each(|i| drop(cycle(&tensors[i % 3])));
    let (before, used, start) = (Held::now(), runtime.memory_used(), Instant::now());
    for i in 0..rounds {
        assert_eq!(cycle(&tensors[i % 3]), want[i % 3], "cycle {i}");
    }
    assert_eq!(runtime.memory_used(), used);
    let what = format!("{rounds} cycles in {:.1} s", start.elapsed().as_secs_f64());
    before.compare(&what, share(16 * MIB, rounds, ALL));
}

#[test]
fn runtimes() {
    if !alone("runtimes") {
        return;
    }
    const ALL: usize = 2_000;
    let rounds = if is_long() { ALL } else { 20 };
    let packed = tensor("Q4_0", 64, 256);
    let x = activations(256, 1);
    let options = VARIANTS[0].options();
    let one = |i: usize| {
        let runtime = Runtime::with_options(&options).expect("an adapter");
        let w = runtime.upload(&packed).expect("small");
        let y = runtime.matmul(&w, &x).expect("small");
        if i % 10 == 9 {
            runtime.device().destroy();
            assert!(matches!(runtime.wait(), Err(Error::DeviceLost(_))));
        }
        y
    };
    let want = one(0);
    (0..(rounds / 10).max(5)).for_each(|i| drop(one(i)));
    let (before, start) = (Held::now(), Instant::now());
    for i in 0..rounds {
        assert_eq!(one(i), want, "runtime {i}");
    }
    let what = format!("{rounds} runtimes in {:.1} s", start.elapsed().as_secs_f64());
    before.compare(&what, share(32 * MIB, rounds, ALL));
}

/// One kind of work: a format, a shape, and what is done with it.
struct Work {
    packed: PackedTensor,
    x: Vec<f32>,
    n: usize,
}

impl Work {
    fn all() -> Vec<Self> {
        let shapes = [(64, 256, 1), (130, 512, 8), (300, 768, 33), (33, 1024, 3)];
        let formats = ["Q4_0", "Q6_K", "NF4", "IQ2_XS", "F16", "INT4"];
        let one = |i: usize| {
            let (m, k, n) = shapes[i % shapes.len()];
            Self {
                packed: tensor(formats[i % formats.len()], m - m % 2, k),
                x: activations(n * k, i as u64),
                n,
            }
        };
        (0..12).map(one).collect()
    }

    /// Everything that there is to do, and a refusal in between.
    fn run(&self, runtime: &Runtime) -> Vec<u32> {
        let w = runtime.upload(&self.packed).expect("small");
        let stack = Upload { experts: 2, ..Upload::default() };
        let stack = runtime.upload_with(&self.packed, stack).expect("small");
        let experts: Vec<u32> = (0..self.n as u32).map(|i| i % 2).collect();
        let mut all = runtime.matmul(&w, &self.x).expect("small");
        all.extend(pollster::block_on(runtime.matmul_async(&w, &self.x)).expect("small"));
        all.extend(
            runtime.matmul_experts(&stack, &self.x, &experts, &MatmulOptions::default()).expect("small"),
        );
        all.extend(runtime.dequantize(&w).expect("small"));
        all.extend(runtime.get_rows(&w, &[1, 0]).expect("small"));
        let refused = runtime.get_rows(&w, &vec![0; 1 << 16]);
        assert!(matches!(refused, Err(Error::OutOfMemory { .. })), "{:?}", refused.map(drop));
        all.into_iter().map(f32::to_bits).collect()
    }
}

#[test]
fn mixed_work() {
    let _stated = pipelines(60);
    if !alone("mixed_work") {
        return;
    }
    let asked = std::env::var("QMATMUL_SOAK_SECONDS").ok().map(|s| s.parse().expect("seconds"));
    let seconds: u64 = asked.unwrap_or(if is_long() { 3600 } else { 2 });
    let options = Options { memory_limit: Some(48 * MIB), ..VARIANTS[0].options() };
    let runtime = crate::device::open(&options);
    let works = Work::all();
    let want: Vec<_> = works.iter().map(|work| work.run(&runtime)).collect();
    let rounds = AtomicU64::new(0);
    let run_for = |time: Duration| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for first in 0..2 {
                let (rounds, runtime, works, want) = (&rounds, &runtime, &works, &want);
                scope.spawn(move || {
                    let mut i = first;
                    while start.elapsed() < time {
                        let at = i % works.len();
                        assert!(works[at].run(runtime) == want[at], "round {i} differs");
                        rounds.fetch_add(1, Ordering::Relaxed);
                        i += 1;
                    }
                });
            }
        });
    };
    let time = Duration::from_secs(seconds);
    run_for((time / 4).min(Duration::from_secs(60)));
    let (used, slack) = (runtime.memory_used(), share(32 * MIB, seconds as usize, 3600));
    // What is lost is lost each time; a step of an allocator, which a short run may see, comes once.
    for left in (0..if is_long() { 1 } else { 3 }).rev() {
        let before = Held::now();
        rounds.store(0, Ordering::Relaxed);
        run_for(time);
        assert_eq!(runtime.memory_used(), used);
        let rounds = rounds.load(Ordering::Relaxed);
        assert!(rounds > 0, "nothing was done");
        if left == 0 || before.grown(before.settled()) <= slack {
            before.compare(&format!("{rounds} rounds of mixed work in {seconds} s"), slack);
            break;
        }
    }
}
